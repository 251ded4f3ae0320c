"""Encrypted Client Hello against a vector of HPKE, and against a server of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from circumvent.api import TlsOptions
from circumvent.api.layer import Dial
from circumvent.errors import EchRejectedError, HandshakeError, LinkError
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.layer import TlsLayer
from circumvent.net.dialer import NetDialer
from circumvent.wire.tls13.browsers import SAFARI
from circumvent.wire.tls13.captured import CHROME, FIREFOX
from circumvent.wire.tls13.client import Client
from circumvent.wire.tls13.codes import RETRY_RANDOM, Content, Group, Message
from circumvent.wire.tls13.ech import EncryptedGreeting
from circumvent.wire.tls13.ech_config import EchConfig, find_config
from circumvent.wire.tls13.hello import make_hello
from circumvent.wire.tls13.hpke import Sealing, shared_secret, start
from circumvent.wire.tls13.key_schedule import expand_label, extract
from circumvent.wire.tls13.reader import u8, u16, vector8, vector16, vector24
from circumvent.wire.tls13.suites import SUITES
from circumvent.wire.tls13.templates import Template
from circumvent.wire.tls13.verify import TrustedServer
from tests.hellos.form import parse_hello
from tests.unit.tls13_server import Server, extension
from tests.unit.tls13_world import NAME, certificate, chain, open_all, private_key, write_authority

PUBLIC_NAME, ECH, OUTER_LIST = "public.example", 0xFE0D, 0xFD00
SECRET = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = SECRET.public_key().public_bytes_raw()


def config_body(
    kem: int = 0x20, suites: tuple[tuple[int, int], ...] = ((1, 1),), extensions: bytes = b""
) -> bytes:
    listed = b"".join(u16(kdf) + u16(aead) for kdf, aead in suites)
    key = u8(7) + u16(kem) + vector16(PUBLIC) + vector16(listed)
    return key + u8(40) + vector8(PUBLIC_NAME.encode()) + vector16(extensions)


def config_list(*bodies: bytes, version: int = 0xFE0D) -> bytes:
    return vector16(b"".join(u16(version) + vector16(body) for body in bodies))


CONFIG = find_config(config_list(config_body()))


class Opening(Sealing):
    """The other end of HPKE: it opens instead of sealing."""

    def __init__(self, encapsulated: bytes) -> None:
        shared = shared_secret(SECRET, encapsulated, encapsulated + PUBLIC)
        super().__init__(shared, CONFIG.aead, b"tls ech\0" + CONFIG.raw)

    def open(self, sealed: bytes, additional: bytes) -> bytes:
        return self._aead.decrypt(self._next_nonce(), sealed, additional)


class EchServer(Server):
    """It opens the inner hello, if it has the key, and goes on with that."""

    opening: Opening | None = None
    inner_random = b""
    knows = True
    names: list[str]

    def _greet(self, record: bytes) -> bytes:
        self.names = [*getattr(self, "names", []), name_in(record)]
        if self.knows:
            record = b"\x16\x03\x01" + vector16(self._open(record))
            self.names.append(name_in(record))
            self.inner_random = parse_hello(record).random
        return super()._greet(record)

    def _open(self, record: bytes) -> bytes:
        outer = parse_hello(record)
        body = outer.bodies[ECH]
        size = int.from_bytes(body[6:8])
        encapsulated, payload = body[8 : 8 + size], body[10 + size :]
        if self.opening is None:
            self.opening = Opening(encapsulated)
        else:
            assert not encapsulated
        additional = record[9:].replace(payload, bytes(len(payload)))
        return rebuild(self.opening.open(payload, additional), outer.session_id, outer.bodies)

    def _send_hello(self, session_id: bytes, random: bytes, share: bytes) -> bytes:
        if not self.knows:
            return super()._send_hello(session_id, random, share)
        if random == RETRY_RANDOM:
            return super()._send_hello(session_id, random, share + self._proof_of_retry(share))
        zeroed = random[:24] + bytes(8)
        said = self._transcript.digest_with(self._hello_of(session_id, zeroed, share))
        proof = self._proof(b"ech accept confirmation", said)
        return super()._send_hello(session_id, random[:24] + proof, share)

    def _proof_of_retry(self, share: bytes) -> bytes:
        session_id = parse_hello(b"\x16\x03\x01" + vector16(self.hello)).session_id
        message = self._hello_of(session_id, RETRY_RANDOM, share + extension(ECH, bytes(8)))
        said = self._transcript.digest_with(message)
        return extension(ECH, self._proof(b"hrr ech accept confirmation", said))

    def _hello_of(self, session_id: bytes, random: bytes, share: bytes) -> bytes:
        """What will be said, to be hashed before."""
        extensions = extension(0x2B, b"\x03\x04") + share
        body = u16(0x0303) + random + vector8(session_id) + u16(self.suite) + b"\0"
        return u8(Message.SERVER_HELLO) + vector24(body + vector16(extensions))

    def _proof(self, label: bytes, said: bytes) -> bytes:
        name = SUITES[self.suite].hash_name
        return expand_label(name, extract(name, b"", self.inner_random), label, said, 8)


def name_in(record: bytes) -> str:
    return parse_hello(record).bodies[0][5:].decode()


def rebuild(encoded: bytes, session_id: bytes, outer: dict[int, bytes]) -> bytes:
    """The inner hello in full (RFC 9849 §5.1)."""
    assert encoded[34] == 0
    size = int.from_bytes(encoded[35:37])
    at = 37 + size + 2
    end = at + 2 + int.from_bytes(encoded[at : at + 2])
    assert not any(encoded[end:])
    assert len(encoded) % 32 == 0
    extensions, place = b"", at + 2
    while place < end:
        code, length = encoded[place : place + 2], int.from_bytes(encoded[place + 2 : place + 4])
        body = encoded[place + 4 : place + 4 + length]
        if int.from_bytes(code) == OUTER_LIST:
            named = [int.from_bytes(body[n : n + 2]) for n in range(1, len(body), 2)]
            extensions += b"".join(extension(n, outer[n]) for n in named)
        else:
            extensions += code + vector16(body)
        place += 4 + length
    body = encoded[:34] + vector8(session_id) + encoded[35:at] + vector16(extensions)
    return u8(Message.CLIENT_HELLO) + vector24(body)


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_authority(tmp_path_factory.mktemp("authority")))


def client(ca_file: str, template: Template = CHROME, config: EchConfig = CONFIG) -> Client:
    greeting = EncryptedGreeting(make_hello(template, PUBLIC_NAME), NAME, config)
    return Client(greeting, TrustedServer((NAME,), ca_file), TrustedServer((PUBLIC_NAME,), ca_file))


def server(name: str = NAME) -> EchServer:
    leaf = certificate(name)
    return EchServer(private_key(leaf), chain(leaf))


def meet(mine: Client, peer: EchServer) -> None:
    to_server = mine.start()
    for _ in range(3):
        to_server = mine.receive(peer.receive(to_server))
        if mine.connection is not None:
            peer.receive(to_server)
            return


def test_hpke_vector_of_rfc_9180() -> None:
    _, sealing = start(
        bytes.fromhex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d"),
        1,
        bytes.fromhex("4f6465206f6e2061204772656369616e2055726e"),
        X25519PrivateKey.from_private_bytes(
            bytes.fromhex("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736")
        ),
    )
    sealed = sealing.seal(b"Beauty is truth, truth beauty", b"Count-0").hex()
    assert sealed == (
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"
    )


@pytest.mark.parametrize("template", [CHROME, FIREFOX, SAFARI])
def test_only_the_server_sees_the_name(template: Template, ca_file: str) -> None:
    mine, peer = client(ca_file, template), server()
    meet(mine, peer)
    assert mine.connection is not None
    assert peer.names == [PUBLIC_NAME, NAME]
    assert open_all(mine.connection, peer.seal(b"hi", Content.DATA)) == b"hi"


def test_a_second_hello_is_sealed_too(ca_file: str) -> None:
    mine, peer = client(ca_file), server()
    peer.group, peer.retries, peer.cookie = Group.P384, True, b"cookie"
    meet(mine, peer)
    assert mine.connection is not None
    assert peer.names == [PUBLIC_NAME, NAME] * 2


@pytest.mark.parametrize("retries", [False, True])
def test_a_server_without_the_key_gives_a_new_one(retries: bool, ca_file: str) -> None:  # noqa: FBT001
    mine, peer = client(ca_file), server(PUBLIC_NAME)
    peer.knows, peer.retries = False, retries
    peer.group = Group.P256 if retries else Group.X25519
    peer.answers = extension(ECH, config_list(config_body()))
    with pytest.raises(EchRejectedError, match="is old") as caught:
        meet(mine, peer)
    assert find_config(caught.value.retry_configs) == CONFIG
    assert mine.connection is None
    peer.receive(mine.closing)
    assert peer.heard[-1] == bytes((21, 2, 121))


@asynccontextmanager
async def dialling(ca_file: str, *peers: EchServer) -> AsyncIterator[Dial]:
    """Dials a port where each connection is served by the next of the peers."""
    waiting = list(peers)
    served: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        head = await reader.readexactly(5)
        record = head + await reader.readexactly(int.from_bytes(head[3:]))
        writer.write(waiting.pop(0).receive(record))
        await reader.read(-1)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield partial(NetDialer(TlsClient(ca_file)).tcp, "127.0.0.1", port)
        assert waiting == []
        await asyncio.gather(*filter(None, served))


def layer_with_an_old_key() -> TlsLayer:
    old = X25519PrivateKey.generate().public_key().public_bytes_raw()
    body = config_body().replace(PUBLIC, old)
    return TlsLayer(TlsOptions(NAME, ech=config_list(body)))


def rejecting(retry: bytes) -> EchServer:
    peer = server(PUBLIC_NAME)
    peer.knows, peer.answers = False, retry and extension(ECH, retry)
    return peer


async def test_the_servers_new_key_is_used_on_one_more_connection(ca_file: str) -> None:
    first, second = rejecting(config_list(config_body())), server()
    async with dialling(ca_file, first, second) as dial:
        stream = await layer_with_an_old_key().dial(dial)
        await stream.aclose()
    assert (first.names, second.names) == ([PUBLIC_NAME], [PUBLIC_NAME, NAME])


@pytest.mark.parametrize("retries", [[], [config_list(config_body())] * 2])
async def test_a_server_that_keeps_rejecting_is_given_up(
    retries: list[bytes], ca_file: str
) -> None:
    peers = [rejecting(retry) for retry in retries or [b""]]
    async with dialling(ca_file, *peers) as dial:
        with pytest.raises(EchRejectedError, match="ask for a new link"):
            await layer_with_an_old_key().dial(dial)
    assert [peer.names for peer in peers] == [[PUBLIC_NAME]] * len(peers)


def test_somebody_else_cannot_give_a_new_key(ca_file: str) -> None:
    mine, peer = client(ca_file), server("other.example")
    peer.knows, peer.answers = False, extension(ECH, config_list(config_body()))
    with pytest.raises(HandshakeError, match="another name"):
        meet(mine, peer)


def test_a_server_that_opened_it_has_no_other_key_to_give(ca_file: str) -> None:
    mine, peer = client(ca_file), server()
    peer.answers = extension(ECH, config_list(config_body()))
    with pytest.raises(HandshakeError, match="did not send"):
        meet(mine, peer)


def test_a_server_that_changes_its_mind(ca_file: str) -> None:
    mine, peer = client(ca_file), server()
    peer.group, peer.retries = Group.P384, True
    again = mine.receive(peer.receive(mine.start()))
    peer.inner_random = bytes(32)
    peer._open = lambda record: record[5:]  # type: ignore[method-assign]  # noqa: SLF001
    with pytest.raises(HandshakeError, match="and then it could not"):
        mine.receive(peer.receive(again))


# --- configs -------------------------------------------------------------------------------------


def test_the_first_config_that_is_known_is_taken() -> None:
    strange = config_body(kem=0x10)
    other = config_body(suites=((2, 1), (1, 9), (1, 3)))
    found = find_config(config_list(strange, other))
    assert (found.aead, found.max_name, found.public_name) == (3, 40, PUBLIC_NAME)
    assert found.raw == u16(0xFE0D) + vector16(other)


@pytest.mark.parametrize(
    "configs",
    [
        config_list(config_body(), version=0xFE0A),
        config_list(config_body(suites=((1, 9),))),
        config_list(config_body(extensions=extension(0x8001, b""))),
        config_list(),
        b"",
        config_list(config_body()) + b"x",
        config_list(config_body()[:-3]),
        config_list(config_body().replace(b"public", b"publi\xff")),
    ],
)
def test_configs_that_cannot_be_used(configs: bytes) -> None:
    with pytest.raises(LinkError):
        find_config(configs)


def test_a_key_that_is_none() -> None:
    with pytest.raises(LinkError):
        EncryptedGreeting(
            make_hello(CHROME, PUBLIC_NAME), NAME, replace(CONFIG, public_key=bytes(32))
        )


@given(st.binary(max_size=80))
def test_any_bytes_are_a_config_or_a_link_error(noise: bytes) -> None:
    try:
        find_config(config_list(noise))
    except LinkError:
        pass
    else:
        raise AssertionError(noise)


def test_the_length_does_not_tell_the_name() -> None:
    sizes = set()
    for name in ("a.example", "a-much-longer-name.of-a.site.example"):
        greeting = EncryptedGreeting(make_hello(CHROME, PUBLIC_NAME), name, CONFIG)
        sizes.add(len(greeting.say()))
        assert name.encode() not in greeting.message
    assert len(sizes) == 1
