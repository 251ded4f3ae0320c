"""What a server has to show, and the easiest answer: nothing at all.

A proof looks at the certificates and gives the key that must have signed the handshake.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import Certificate, load_der_x509_certificate

from circumvent.wire.tls13.codes import Alert
from circumvent.wire.tls13.faults import Fault

PublicKey = CertificatePublicKeyTypes


@dataclass(frozen=True, slots=True)
class Shown:
    """What the server showed: its chain (DER, its own certificate first) and the two greetings."""

    chain: list[bytes]
    client_hello: bytes
    server_hello: bytes


class Proof(Protocol):
    """Decides whether a server is the one that was meant."""

    def check(self, shown: Shown) -> PublicKey:
        """The key that must have signed the handshake; raises Fault when it is not the one."""

    @property
    def is_genuine(self) -> bool:
        """Whether the server is the one that was meant, and not only the site that it imitates."""

    @property
    def key_sha256(self) -> bytes:
        """SHA-256 of the key where it is all that is known of the server, else empty."""


class AnyServer:
    """No check of who it is, for users who asked for that by name; its key is noted."""

    __slots__ = ("key_sha256",)
    is_genuine = True

    def __init__(self) -> None:
        self.key_sha256 = b""

    def check(self, shown: Shown) -> PublicKey:
        key = public_key(load(shown.chain[0]))
        self.key_sha256 = digest_of_key(key)
        return key


def load(certificate: bytes) -> Certificate:
    """A certificate from its DER; raises Fault."""
    try:
        return load_der_x509_certificate(certificate)
    except ValueError:
        raise _unreadable() from None


def public_key(certificate: Certificate) -> PublicKey:
    """Its key; raises Fault."""
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise _unreadable() from None


def digest_of_key(key: PublicKey) -> bytes:
    """SHA-256 of the key in DER, as pins have it."""
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).digest()


def _unreadable() -> Fault:
    return Fault(Alert.BAD_CERTIFICATE, "the server's certificate cannot be read")
