"""What the tests of TLS 1.3 share: certificates, a pump between two ends."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from circumvent.wire.tls13.client import Client
from circumvent.wire.tls13.connection import Connection
from circumvent.wire.tls13.records import MAX_RECORD

NAME = "site.example"


@cache
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@cache
def certificate(name: str = NAME) -> trustme.LeafCert:
    return authority().issue_cert(name)


def write_authority(folder: Path) -> Path:
    path = folder / "authority.pem"
    authority().cert_pem.write_to_path(str(path))
    return path


class OpenSsl:
    """A server by OpenSSL, between two memory BIOs."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.is_done = False

    def receive(self, data: bytes) -> bytes:
        self._incoming.write(data)
        if not self.is_done:
            try:
                self.tls.do_handshake()
                self.is_done = True
            except ssl.SSLWantReadError:
                pass
        return self._outgoing.read()

    def read(self) -> bytes:
        data = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while piece := self.tls.read(1 << 20):
                data += piece
        return data

    def write(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self._outgoing.read()


def server_context(
    leaf: trustme.LeafCert | None = None, alpn: tuple[str, ...] = ("h2", "http/1.1")
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (leaf or certificate()).configure_cert(context)
    context.set_alpn_protocols(list(alpn))
    return context


def shake(client: Client, server: OpenSsl) -> Connection:
    """Let both talk until the client is done; what is left goes to the server's end."""
    to_server = client.start()
    for _ in range(4):
        to_client = server.receive(to_server)
        to_server = client.receive(to_client)
        if client.connection is not None:
            tickets = client.leftover + server.receive(to_server)
            assert open_all(client.connection, tickets) == b""
            return client.connection
    raise AssertionError("the handshake does not end")


def seal(connection: Connection, data: bytes) -> bytes:
    room = connection.headroom(len(data))
    block = memoryview(bytearray(room) + data)
    first, last = connection.seal(block, room, room + len(data))
    return bytes(block[first:last]) + connection.take_outgoing()


def open_all(connection: Connection, wire: bytes) -> bytes:
    """All data in ``wire``, opened as a layer does: the plaintext in front, in one block."""
    block = memoryview(bytearray(MAX_RECORD) + wire)
    used, size = connection.open(block[MAX_RECORD:], block)
    assert used == len(wire)
    return bytes(block[:size])


def private_key(leaf: trustme.LeafCert) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def chain(leaf: trustme.LeafCert) -> list[bytes]:
    return [ssl.PEM_cert_to_DER_cert(pem.bytes().decode()) for pem in leaf.cert_chain_pems]


def self_signed(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """A certificate that only a pin trusts, in DER."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start.replace(2040))
    is_edwards = isinstance(key, ed25519.Ed25519PrivateKey)
    return builder.sign(key, None if is_edwards else hashes.SHA256()).public_bytes(Encoding.DER)


def digest_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
