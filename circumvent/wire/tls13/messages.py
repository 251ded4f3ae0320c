"""Reads what a server says behind its greeting (RFC 8446 §4.3, §4.4, §4.6); raises Fault.

All these functions take a message with its header.
"""

from __future__ import annotations

from dataclasses import dataclass

from circumvent.wire.tls13.codes import MESSAGE_HEADER, Alert, Extension
from circumvent.wire.tls13.faults import Fault
from circumvent.wire.tls13.reader import Reader
from circumvent.wire.tls13.server_hello import check_allowed, read_extensions

MAX_MESSAGE = 100 * 1024  # bytes; as much as BoringSSL takes for a chain of certificates
MAX_CERTIFICATES = 10  # real chains have two to four
MAX_LIFETIME = 7 * 24 * 3600  # seconds; RFC 8446 §4.6.1
_RECORD_SIZE_LIMIT = 0x001C  # RFC 8449
_LEAST_LIMIT = 64  # RFC 8449 §4


@dataclass(frozen=True, slots=True)
class Answers:
    """EncryptedExtensions: ``alpn`` is empty where the server chose none.

    ``record_limit``: bytes of data that a record to the server may hold; 0 where it did not say.
    ``ech_retry``: an ECHConfigList for a next try, where the server could not open our hello.
    """

    alpn: str
    record_limit: int
    ech_retry: bytes


@dataclass(frozen=True, slots=True)
class NewTicket:
    """A NewSessionTicket; ``lifetime`` in seconds."""

    lifetime: int
    age_add: int
    nonce: bytes
    identity: bytes


def read_answers(message: bytes, sent: set[int], alpn: tuple[str, ...]) -> Answers:
    """EncryptedExtensions; ``sent`` are the numbers of our extensions."""
    reader = Reader(message[MESSAGE_HEADER:], "list of extensions")
    extensions = read_extensions(reader.inside(2))
    reader.end()
    check_allowed(extensions, sent)
    return Answers(
        alpn=_read_alpn(extensions.get(Extension.ALPN), alpn),
        record_limit=_read_limit(extensions.get(_RECORD_SIZE_LIMIT)),
        ech_retry=extensions.get(Extension.ECH, b""),
    )


def _read_alpn(body: bytes | None, offered: tuple[str, ...]) -> str:
    if body is None:
        return ""
    reader = Reader(body, "choice of a protocol (alpn)")
    names = reader.inside(2)
    chosen = names.vector(1, at_least=1)
    names.end()
    reader.end()
    for name in offered:
        if name.encode() == chosen:
            return name
    raise Fault(Alert.ILLEGAL_PARAMETER, "the server chose a protocol (alpn) that was not offered")


def _read_limit(body: bytes | None) -> int:
    """The number counts the byte of the content type, too."""
    if body is None:
        return 0
    reader = Reader(body, "limit of records")
    limit = reader.number(2)
    reader.end()
    if limit < _LEAST_LIMIT:
        raise Fault(Alert.ILLEGAL_PARAMETER, "the server wants records that are too small")
    return limit - 1


def read_certificates(message: bytes) -> list[bytes]:
    """The chain, the server's own certificate first."""
    reader = Reader(message[MESSAGE_HEADER:], "certificate message")
    context, entries = reader.vector(1), reader.inside(3)
    reader.end()
    chain = []
    while entries:
        chain.append(entries.vector(3, at_least=1))
        entries.vector(2)  # OCSP and SCT, which browsers ask for and we do not read
    if context or not chain:
        raise Fault(Alert.DECODE_ERROR, "the server showed no certificate")
    if len(chain) > MAX_CERTIFICATES:
        raise Fault(Alert.BAD_CERTIFICATE, f"the server showed {len(chain)} certificates")
    return chain


def read_request(message: bytes) -> bytes:
    """The context of a CertificateRequest, which must be empty in a handshake."""
    reader = Reader(message[MESSAGE_HEADER:], "request for a certificate")
    context, extensions = reader.vector(1), read_extensions(reader.inside(2))
    reader.end()
    if context:
        raise reader.malformed()
    if Extension.SIGNATURES not in extensions:
        raise Fault(Alert.MISSING_EXTENSION, "the server asked for a certificate of no kind")
    return context


def read_verify(message: bytes) -> tuple[int, bytes]:
    """The scheme and the signature of a CertificateVerify."""
    reader = Reader(message[MESSAGE_HEADER:], "signature")
    scheme, signature = reader.number(2), reader.vector(2)
    reader.end()
    return scheme, signature


def read_ticket(message: bytes) -> NewTicket:
    """A NewSessionTicket; what it says of early data is not for us."""
    reader = Reader(message[MESSAGE_HEADER:], "ticket")
    lifetime, age_add = reader.number(4), reader.number(4)
    nonce, identity = reader.vector(1), reader.vector(2, at_least=1)
    read_extensions(reader.inside(2))
    reader.end()
    return NewTicket(min(lifetime, MAX_LIFETIME), age_add, nonce, identity)


def read_key_update(message: bytes) -> bool:
    """Whether the peer wants us to renew our key, too."""
    wanted = message[MESSAGE_HEADER:]
    if wanted not in {b"\0", b"\1"}:
        raise Fault(Alert.ILLEGAL_PARAMETER, "the server's renewal of its key is malformed")
    return wanted == b"\1"
