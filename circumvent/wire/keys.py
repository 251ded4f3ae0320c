"""Keys as text: one line that names its kind, so that no secret passes for a public key."""

from __future__ import annotations

import enum
import secrets
from dataclasses import dataclass, field

from circumvent.errors import LinkError
from circumvent.wire.base64url import decode_base64, encode_base64url
from circumvent.wire.dsse import KEY_SIZE


class KeyKind(enum.Enum):
    """What a key is for; the values are written to files and must not change."""

    SIGNER = "ed25519-secret"  # signs bundles
    TRUSTED = "ed25519-public"  # verifies that an authority signed a bundle
    BUCKET = "x25519-secret"  # opens the bundles of a bucket; part of its invites
    SEALING = "x25519-public"  # seals them


@dataclass(frozen=True, slots=True)
class Key:
    """A raw key of 32 bytes (RFC 8032, RFC 7748), and what it is for."""

    kind: KeyKind
    raw: bytes = field(repr=False)

    def text(self) -> str:
        """What a key file holds: ``KIND:BASE64URL``."""
        return f"{self.kind.value}:{encode_base64url(self.raw)}"

    def public(self) -> Key:
        """The public half; of a public key, the key itself."""
        if self.kind is KeyKind.SIGNER:
            return Key(KeyKind.TRUSTED, _ed25519_public(self.raw))
        if self.kind is KeyKind.BUCKET:
            return Key(KeyKind.SEALING, _x25519_public(self.raw))
        return self


def generate(kind: KeyKind) -> Key:
    """A new secret key: any 32 bytes are one (RFC 8032 §5.1.5, RFC 7748 §6.1)."""
    return Key(kind, secrets.token_bytes(KEY_SIZE))


def parse_key(text: str, *kinds: KeyKind) -> Key:
    """Read a key that is one of ``kinds``; raises ValueError, whose text repeats nothing of it."""
    name, _, value = text.strip().partition(":")
    kind = next((each for each in KeyKind if each.value == name), None)
    if kind not in kinds:
        wanted = " or ".join(f'"{each.value}:"' for each in kinds)
        raise ValueError(f"is {f'an {kind.value} key' if kind else 'no key'}; needed: {wanted}")
    try:
        raw = decode_base64("key", value)
    except LinkError:
        raw = b""
    key = Key(kind, raw)
    if len(raw) != KEY_SIZE or key.text() != text.strip():
        raise ValueError(f"is cut or altered: a key has {KEY_SIZE} bytes")
    return key


def _ed25519_public(raw: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - 9 MB
        Ed25519PrivateKey,
    )

    return Ed25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw()


def _x25519_public(raw: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import (  # noqa: PLC0415 - 9 MB
        X25519PrivateKey,
    )

    return X25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw()
