"""REALITY against a vector, and against a server of the tests that knows the secret or does not."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from circumvent.errors import HandshakeError, LinkError
from circumvent.wire.tls13.browsers import SAFARI
from circumvent.wire.tls13.captured import CHROME, FIREFOX
from circumvent.wire.tls13.client import Client, RealCertificateError
from circumvent.wire.tls13.codes import Content, Group, Message
from circumvent.wire.tls13.greeting import Greeting
from circumvent.wire.tls13.hello import make_hello
from circumvent.wire.tls13.key_shares import X25519Pair
from circumvent.wire.tls13.reality import (
    RealityProof,
    Server,
    auth_key,
    make_token,
    seal_token,
)
from circumvent.wire.tls13.records import Opener
from circumvent.wire.tls13.templates import Template
from circumvent.wire.tls13.verify import TrustedServer
from tests.hellos.form import parse_hello
from tests.unit import tls13_server
from tests.unit.tls13_world import NAME, certificate, chain, open_all, private_key, write_authority

NOW, SHORT_ID = 0x6A000000, bytes.fromhex("0123456789abcdef")
SECRET = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = SECRET.public_key().public_bytes_raw()
# The certificate up to the key, as REALITY servers make it, and between key and signature.
HEAD = bytes.fromhex(
    "3081af3063a003020102020100300506032b65703000301e170d3031303130313030303030305a170d303130313031"
    "3030303030305a3000302a"
)
KEY_HEAD = bytes.fromhex("300506032b6570032100")
TAIL = bytes.fromhex("300506032b6570034100")


def test_vector() -> None:
    client = X25519Pair(X25519PrivateKey.from_private_bytes(bytes(range(0x20, 0x40))))
    random = bytes(range(0x80, 0xA0))
    key = auth_key(client.agree(PUBLIC), random)
    assert key.hex() == "de63001aec603087533192addcdbf3b3c96ae1cc8c5957509d0c72c68de5c349"
    token = b"\x1a\x07\x1c\x00" + make_token(SHORT_ID, NOW)[4:]
    assert token.hex() == "1a071c006a0000000123456789abcdef"
    assert make_token(SHORT_ID, NOW) == token
    hello = bytes.fromhex("0100004b0303") + random + b"\x20" + bytes(32)
    hello += bytes.fromhex("00021301" + "0100" + "0000")
    sealed = seal_token(key, token, hello).hex()
    assert sealed == "398ee93e348c4ba0a0dd8798370fb78a153edbd9fc5366a8d0fb534685d055d2"
    mac = hmac.digest(key, bytes(range(32)), hashlib.sha512).hex()
    assert mac.startswith("a010894117eb3197c03e61d8c65343731")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> TrustedServer:
    return TrustedServer((NAME,), str(write_authority(tmp_path_factory.mktemp("authority"))))


class Imitator(tls13_server.Server):
    """A REALITY server: looks at the hello as the real one does, and answers with its proof."""

    pq_key: MLDSA65PrivateKey | None = None
    short_id = SHORT_ID
    forges = False

    def _greet(self, record: bytes) -> bytes:
        self.mac_key = bytes(32) if self.forges else self._token_key(record)
        return super()._greet(record)

    def _token_key(self, record: bytes) -> bytes:
        hello = parse_hello(record)
        body = hello.bodies[0x33]
        at = body.index(b"\x00\x1d\x00\x20") + 4
        shared = SECRET.exchange(X25519PublicKey.from_public_bytes(body[at : at + 32]))
        key = auth_key(shared, hello.random)
        unsealed = record[5:44] + bytes(32) + record[76:]
        token = AESGCM(key).decrypt(hello.random[20:], hello.session_id, unsealed)
        assert token == make_token(self.short_id, NOW)
        return key

    def _certificates(self) -> bytes:
        assert isinstance(self.key, Ed25519PrivateKey)
        public = self.key.public_key().public_bytes_raw()
        mac = hmac.digest(self.mac_key, public, hashlib.sha512)
        self.chain = [HEAD + KEY_HEAD + public + self._pq(public) + TAIL + mac]
        return super()._certificates()

    def _pq(self, public: bytes) -> bytes:
        if self.pq_key is None:
            return b""
        said = public + self.hello + self.server_hello
        signature = self.pq_key.sign(hmac.digest(self.mac_key, said, hashlib.sha512))
        return bytes(126 - len(HEAD + KEY_HEAD + public)) + signature

    server_hello = b""


def imitator() -> Imitator:
    server = Imitator(Ed25519PrivateKey.generate(), [], 0x0807)

    def remember(kind: Message, said: bytes) -> list[bytes]:
        if kind == Message.SERVER_HELLO:
            server.server_hello = said
        return [said]

    server.change = remember
    return server


def client(
    site: TrustedServer, template: Template = CHROME, pq_key: bytes = b"", short: bytes = SHORT_ID
) -> Client:
    hello, proof = make_hello(template, NAME), RealityProof(Server(PUBLIC, short, pq_key), site)
    proof.seal(hello, NOW)
    return Client(Greeting(hello), proof)


@pytest.mark.parametrize("template", [CHROME, FIREFOX, SAFARI])
@pytest.mark.parametrize("group", [Group.X25519, Group.X25519_MLKEM768])
def test_a_server_that_knows_us(template: Template, group: int, site: TrustedServer) -> None:
    mine, server = client(site, template), imitator()
    server.group = group
    server.receive(mine.receive(server.receive(mine.start())))
    assert mine.connection is not None
    empty = server.seal(b"", Content.DATA)  # imitates a ticket of the site
    assert open_all(mine.connection, empty + server.seal(b"hi", Content.DATA)) == b"hi"


def test_a_short_id_may_be_empty(site: TrustedServer) -> None:
    mine, server = client(site, short=b""), imitator()
    server.short_id = b""
    mine.receive(server.receive(mine.start()))
    assert mine.connection is not None


@pytest.mark.parametrize("other", [None, MLDSA65PrivateKey.generate()], ids=["none", "another"])
def test_a_server_with_mldsa(site: TrustedServer, other: MLDSA65PrivateKey | None) -> None:
    key = MLDSA65PrivateKey.generate()
    public, server = key.public_key().public_bytes_raw(), imitator()
    server.pq_key = key
    mine = client(site, pq_key=public)
    mine.receive(server.receive(mine.start()))
    assert mine.connection is not None
    mine, server = client(site, pq_key=public), imitator()
    server.pq_key = other
    with pytest.raises(HandshakeError, match=r"ML-DSA-65 \(pqv\): ask for a new link"):
        mine.receive(server.receive(mine.start()))


def test_a_forged_proof_is_nobody_s_certificate(site: TrustedServer) -> None:
    mine, server = client(site), imitator()
    flight = mine.start()
    server.forges = True
    with pytest.raises(HandshakeError, match="certificate") as caught:
        mine.receive(server.receive(flight))
    assert not isinstance(caught.value, RealCertificateError)


def test_the_real_site_is_told_apart_and_left_politely(site: TrustedServer) -> None:
    """The handshake is complete, as a browser would do it, and the caller cannot overlook it."""
    leaf = certificate()
    real = tls13_server.Server(private_key(leaf), chain(leaf))
    mine = client(site)
    with pytest.raises(RealCertificateError, match="did not recognize us") as caught:
        mine.receive(real.receive(mine.start()))
    real.receive(mine.closing)
    assert real.binding  # it got our Finished, no alert
    assert isinstance(real.opener, Opener)
    real.receive(caught.value.connection.goodbye())
    assert real.heard[-1][0] == Content.ALERT
    assert mine.state.name == "FAILED"


def test_the_other_half_of_the_key_is_used_where_there_is_no_plain_share(
    site: TrustedServer,
) -> None:
    hello = make_hello(CHROME, NAME)
    hybrid = hello.pairs.pop(Group.X25519)
    assert isinstance(hybrid, X25519Pair)
    RealityProof(Server(PUBLIC, SHORT_ID), site).seal(hello, NOW)
    assert hello.session_id != bytes(32)


@pytest.mark.parametrize(
    ("public", "short", "pq"), [(b"x", b"", b""), (PUBLIC, bytes(9), b""), (PUBLIC, b"", b"x")]
)
def test_keys_of_a_wrong_size(public: bytes, short: bytes, pq: bytes) -> None:
    with pytest.raises(LinkError):
        Server(public, short, pq)


def test_a_key_that_is_none(site: TrustedServer) -> None:
    with pytest.raises(LinkError, match="is no key"):
        RealityProof(Server(bytes(32)), site).seal(make_hello(CHROME, NAME), NOW)


def test_nothing_of_the_system_is_read_for_a_server_that_knows_us(tmp_path: Path) -> None:
    mine, server = client(TrustedServer((NAME,), str(tmp_path / "missing"))), imitator()
    mine.receive(server.receive(mine.start()))
    assert mine.connection is not None
