"""Servers that nobody vouches for: the key of the first use is demanded from then on."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from circumvent.api import ByteStream, SecureStream, TlsEngine, TlsOptions
from circumvent.errors import PinError
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.openssl import OpenSslClient
from circumvent.state.store import Store
from circumvent.tunnels.first_use import FirstUse
from tests.peers.certificates import Certificate
from tests.unit.conftest import OpenStore
from tests.unit.test_tls import Server, serving

ID = "a1b2c3d4e5"
NOBODY = TlsOptions("server.near.test", verify=False)


class Attempt:
    """A TLS engine that goes by what one attempt knows."""

    def __init__(self, engine: TlsEngine, store: Store) -> None:
        self.first_use = FirstUse(ID, store.certificates)
        self._engine = engine

    async def start(self, stream: ByteStream, options: TlsOptions) -> SecureStream:
        return await self.first_use.start(self._engine, stream, options)

    def forget(self) -> None:
        raise NotImplementedError


def show(server: Server, key: ec.EllipticCurvePrivateKey, folder: Path) -> None:
    """From now on ``server`` shows a new certificate that it signed itself with ``key``."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "panel")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=9))
    file = folder / "self-signed.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(pem + builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(file)
    server.context.num_tickets = 1


@pytest.fixture
def store(tmp_path: Path, opened: OpenStore) -> Store:
    return opened(tmp_path / "state.db")


@pytest.fixture(params=[TlsClient, OpenSslClient], ids=["ours", "openssl"])
def engine(request: pytest.FixtureRequest) -> TlsEngine:
    made: TlsEngine = request.param()
    return made


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
async def server(
    certificate: Certificate, tmp_path: Path, key: ec.EllipticCurvePrivateKey
) -> AsyncIterator[Server]:
    async with serving(certificate, lambda tcp: tcp) as server:
        show(server, key, tmp_path)
        yield server


async def test_another_key_is_refused_and_told_until_the_user_accepts_it(
    server: Server, engine: TlsEngine, store: Store, tmp_path: Path
) -> None:
    first = Attempt(engine, store)
    await server.connect(first, NOBODY)
    first.first_use.keep()
    show(server, ec.generate_private_key(ec.SECP256R1()), tmp_path)
    with pytest.raises(PinError, match=f"somebody may be in between.*forget-certificate {ID}"):
        await server.connect(Attempt(engine, store), NOBODY)
    assert ID in store.certificates.warnings[0]
    assert store.certificates.forget([ID]) == {ID: True}
    assert not store.certificates.warnings
    await server.connect(Attempt(engine, store), NOBODY)


async def test_a_new_certificate_with_the_same_key_is_accepted(
    server: Server,
    engine: TlsEngine,
    store: Store,
    tmp_path: Path,
    key: ec.EllipticCurvePrivateKey,
) -> None:
    first = Attempt(engine, store)
    await server.connect(first, NOBODY)
    first.first_use.keep()
    show(server, key, tmp_path)
    await server.connect(Attempt(engine, store), NOBODY)


async def test_what_passed_no_probe_is_not_remembered(
    server: Server, engine: TlsEngine, store: Store, tmp_path: Path
) -> None:
    await server.connect(Attempt(engine, store), NOBODY)
    show(server, ec.generate_private_key(ec.SECP256R1()), tmp_path)
    await server.connect(Attempt(engine, store), NOBODY)


async def test_within_an_attempt_the_first_key_counts(
    server: Server, engine: TlsEngine, store: Store, tmp_path: Path
) -> None:
    attempt = Attempt(engine, store)
    await server.connect(attempt, NOBODY)
    show(server, ec.generate_private_key(ec.SECP256R1()), tmp_path)
    with pytest.raises(PinError):
        await server.connect(attempt, NOBODY)


async def test_of_two_attempts_at_a_time_the_first_that_works_counts(
    server: Server, engine: TlsEngine, store: Store, tmp_path: Path
) -> None:
    one, other = Attempt(engine, store), Attempt(engine, store)
    await server.connect(one, NOBODY)
    show(server, ec.generate_private_key(ec.SECP256R1()), tmp_path)
    await server.connect(other, NOBODY)
    other.first_use.keep()
    with pytest.raises(PinError):
        one.first_use.keep()


async def test_a_connection_is_resumed_only_where_the_key_was_demanded(
    server: Server, engine: TlsEngine, store: Store
) -> None:
    first = Attempt(engine, store)
    assert not await server.visit(first, NOBODY)
    assert not await server.visit(first, NOBODY), "the first one demanded no key"
    assert await server.visit(first, NOBODY)


async def test_a_server_that_proves_itself_is_not_remembered(
    server: Server, engine: TlsEngine, store: Store, key: ec.EllipticCurvePrivateKey
) -> None:
    encoded = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pinned = TlsOptions("x", verify=False, spki_sha256=(hashlib.sha256(encoded).digest(),))
    attempt = Attempt(engine, store)
    await server.connect(attempt, pinned)
    attempt.first_use.keep()
    assert not store.certificates.key_of(ID)
