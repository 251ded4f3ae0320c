"""Dead Simple Signing Envelope (secure-systems-lab/dsse, protocol.md), with Ed25519.

What is signed is the pre-authentication encoding of type and payload, so no byte needs to be
canonical, and nothing is parsed before a signature over it was found good.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from circumvent.wire.strict_json import parse_strict_json

MAX_SIGNATURES = 16  # more keys than any authority has; each costs a verification
KEY_SIZE = 32  # RFC 8032 §5.1.5: a raw Ed25519 public key
_KEY_ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature; ``key_id`` says whose it claims to be."""

    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload, its type and who signed it."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


class _Signature(msgspec.Struct, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    payload_type: str
    payload: str
    signatures: list[_Signature]


def parse_envelope(data: bytes) -> Envelope:
    """Read an envelope; raises ValueError. Nothing in it is verified yet."""
    raw = msgspec.convert(parse_strict_json(data), _Envelope)
    if not 0 < len(raw.signatures) <= MAX_SIGNATURES:
        message = f"has {len(raw.signatures)} signatures, not 1 to {MAX_SIGNATURES}"
        raise ValueError(message)
    return Envelope(
        raw.payload_type,
        _decode(raw.payload),
        tuple(Signature(each.keyid, _decode(each.sig)) for each in raw.signatures),
    )


def format_envelope(envelope: Envelope) -> bytes:
    """The envelope as bytes; ``parse_envelope`` gives the same value back."""
    raw = _Envelope(
        envelope.payload_type,
        _encode(envelope.payload),
        [_Signature(each.key_id, _encode(each.signature)) for each in envelope.signatures],
    )
    return msgspec.json.encode(raw)


def key_id(public_key: bytes) -> str:
    """A short name of a raw Ed25519 key: the start of its SHA-256, in hexadecimal."""
    return hashlib.sha256(public_key).hexdigest()[:_KEY_ID_DIGITS]


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """``DSSEv1 SP LEN(type) SP type SP LEN(payload) SP payload``."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(envelope: Envelope, private_key: bytes) -> Envelope:
    """The envelope with one more signature; one of the same key is replaced."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - 9 MB
        Ed25519PrivateKey,
    )

    key = Ed25519PrivateKey.from_private_bytes(private_key)
    signer = key_id(key.public_key().public_bytes_raw())
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    others = tuple(each for each in envelope.signatures if each.key_id != signer)
    signed = Signature(signer, key.sign(message))
    return Envelope(envelope.payload_type, envelope.payload, (*others, signed))


def good_signers(envelope: Envelope, keys: Sequence[bytes]) -> Collection[bytes]:
    """Those of ``keys`` (raw Ed25519) with a good signature, each once."""
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    by_id = {key_id(key): key for key in keys}
    claimed = {
        (by_id[each.key_id], each.signature) for each in envelope.signatures if each.key_id in by_id
    }
    return {key for key, signature in claimed if _verifies(key, signature, message)}


def _verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - 9 MB
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - 9 MB
        Ed25519PublicKey,
    )

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decode(text: str) -> bytes:
    """Standard base64 in its one canonical spelling: a changed byte is a changed value."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        message = "holds what is no base64"
        raise ValueError(message) from error
    if _encode(raw) != text:
        message = "holds base64 with stray bits"
        raise ValueError(message)
    return raw
