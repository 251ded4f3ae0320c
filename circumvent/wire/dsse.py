"""Dead Simple Signing Envelope (secure-systems-lab/dsse, protocol.md), with Ed25519.

What is signed is the pre-authentication encoding of type and payload: the payload is opened only
after its signatures were found good. ``keyid`` is the public key itself, so that all signatures can
be checked, those of unknown signers too: no byte of an envelope can change unnoticed.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec

MAX_SIGNATURES = 16  # twice the keys of an authority: old and new ones sign while keys change
KEY_SIZE = 32  # RFC 8032 §5.1.5: a raw Ed25519 key, public or private
_KEY_ID_DIGITS = 16


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signature; ``keyid`` is the raw public key of its alleged signer."""

    keyid: bytes
    sig: bytes


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A payload, its type and who signed it.

    Raises ValueError when one key signs twice.
    """

    payload_type: str
    payload: bytes
    signatures: Annotated[tuple[Signature, ...], msgspec.Meta(max_length=MAX_SIGNATURES)] = ()

    def __post_init__(self) -> None:
        if len(self.signers) < len(self.signatures):
            raise ValueError("one key signs twice")

    @property
    def signers(self) -> frozenset[bytes]:
        """The raw public keys of the alleged signers; nothing is verified."""
        return frozenset(each.keyid for each in self.signatures)


def key_id(public_key: bytes) -> str:
    """A short name of a raw Ed25519 key for people: the start of its SHA-256, in hexadecimal."""
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
    signer = key.public_key().public_bytes_raw()
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    others = tuple(each for each in envelope.signatures if each.keyid != signer)
    signatures = (*others, Signature(signer, key.sign(message)))
    return msgspec.structs.replace(envelope, signatures=signatures)


def is_intact(envelope: Envelope) -> bool:
    """Whether every signature is good, whoever made it."""
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    return all(_verifies(each.keyid, each.sig, message) for each in envelope.signatures)


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
