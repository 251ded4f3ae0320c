"""Dead Simple Signing Envelope (secure-systems-lab/dsse, protocol.md), with Ed25519.

What is signed is the pre-authentication encoding of type and payload: the payload is opened only
after its signatures were found good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Annotated

import msgspec

MAX_SIGNATURES = 16  # twice the keys of an authority: old and new ones sign while keys change
KEY_SIZE = 32  # RFC 8032 §5.1.5: a raw Ed25519 key, public or private
_KEY_ID_DIGITS = 16


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signature; ``keyid`` says whose it claims to be."""

    keyid: str
    sig: bytes


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A payload, its type and who signed it.

    Raises ValueError when somebody signs twice.
    """

    payload_type: str
    payload: bytes
    signatures: Annotated[tuple[Signature, ...], msgspec.Meta(max_length=MAX_SIGNATURES)] = ()

    def __post_init__(self) -> None:
        if len(self.signers) < len(self.signatures):
            message = "somebody signs twice"
            raise ValueError(message)

    @property
    def signers(self) -> AbstractSet[str]:
        """Ids of the keys that are said to have signed."""
        return {each.keyid for each in self.signatures}


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
    others = tuple(each for each in envelope.signatures if each.keyid != signer)
    signatures = (*others, Signature(signer, key.sign(message)))
    return msgspec.structs.replace(envelope, signatures=signatures)


def good_signers(envelope: Envelope, keys: Iterable[bytes]) -> AbstractSet[str]:
    """Ids of those of ``keys`` (raw Ed25519) that made a good signature."""
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    by_id = {key_id(key): key for key in keys}
    return {
        each.keyid
        for each in envelope.signatures
        if each.keyid in by_id and _verifies(by_id[each.keyid], each.sig, message)
    }


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
