"""Vision over a TLS connection: padded, plain and raw, and the moments in between."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from circumvent.api import ByteStream, HandshakeError, LayerStream, TlsEngine, TlsOptions
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.openssl import OpenSslClient
from circumvent.net.tcp import TcpStream
from circumvent.testing.byte_stream import ByteStreamContract
from circumvent.testing.far_end import FarEnd, connected
from circumvent.testing.steps import Pair, read_exactly, read_once, settle, take, write_all
from circumvent.wire.address import Destination
from circumvent.wire.vision_records import InnerRecords
from circumvent_plugins.vless import request_header, user_bytes
from circumvent_plugins.vless.vision import VisionTunnel
from tests.conformance.codecs import HeadedCodec, TlsCodec
from tests.conformance.vision import CONTINUE, PLAIN, RAW, VisionCodec
from tests.peers.certificates import SERVER_NAME, Certificate

ID = "11112222-3333-4444-8555-666677778888"
USER = user_bytes(ID)
HEADER = b"\0" + USER + b"\x12\x0a\x10xtls-rprx-vision\x01\x01\xbb\x02\x06h.test"
RESPONSE = b"\0\3add"
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01" + bytes(511)
SERVER_HELLO = (
    bytes.fromhex("160303008402000080") + bytes(34) + b"\x20" + bytes(32)
    + bytes.fromhex("130100002e002b00020304") + bytes(50)
)  # fmt: skip
DATA = b"\x17\x03\x03\x00\x64" + bytes(100)
SMALL, RECEIVE_BUFFER = 32 * 1024, 256 * 1024

MakeEngine = Callable[[str], TlsEngine]
Base = Callable[[TcpStream], ByteStream]
BASES: dict[str, Base] = {"tcp": lambda tcp: tcp, "stream": LayerStream}


@dataclass(frozen=True, slots=True)
class Vision(Pair):
    """Both ends; ``codec`` is the far end's."""

    codec: VisionCodec


@cache
def engine(make: MakeEngine, authority: Path) -> TlsEngine:
    return make(str(authority))


async def make_vision(
    certificate: Certificate,
    base: Base,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    make: MakeEngine = TlsClient,
) -> AsyncIterator[Vision]:
    near, sock = connected(small=SMALL, receive=RECEIVE_BUFFER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(certificate.chain, certificate.key)
    tls = TlsCodec(context)
    far = FarEnd(sock, tls)
    client = engine(make, certificate.authority)
    client.forget()

    async def dial() -> ByteStream:
        async with asyncio.TaskGroup() as group:
            group.create_task(far.shake_hands())
            return await client.start(base(TcpStream(near)), TlsOptions(SERVER_NAME))

    tunnel = VisionTunnel(dial, lambda _: HEADER, USER)
    try:
        stream = await tunnel.open(Destination("h.test", 443))
        codec = VisionCodec(HeadedCodec(tls, HEADER, RESPONSE), USER)
        far.codec = codec
        yield Vision(stream, far, codec)
        stream.abort()
    finally:
        far.close()


async def say_hello(vision: Vision) -> None:
    """The hellos of TLS 1.3 inside, so that the stream may go raw."""
    await write_all(vision.near, CLIENT_HELLO)
    assert await vision.far.receive(len(CLIENT_HELLO)) == CLIENT_HELLO
    await vision.far.send(SERVER_HELLO)
    assert await read_exactly(vision.near, len(SERVER_HELLO)) == SERVER_HELLO


async def go_raw(vision: Vision) -> None:
    await say_hello(vision)
    await write_all(vision.near, DATA)
    assert await vision.far.receive(len(DATA)) == DATA
    await vision.far.send_wire(vision.codec.last_block(RAW, DATA))
    assert await read_exactly(vision.near, len(DATA)) == DATA
    await settle(vision.near)


@pytest.fixture(params=BASES.values(), ids=list(BASES))
async def vision(request: pytest.FixtureRequest, certificate: Certificate) -> AsyncIterator[Vision]:
    async for made in make_vision(certificate, request.param):
        yield made


class TestPadded(ByteStreamContract):
    """What is no TLS: padded at first, and by this server to the end."""

    @pytest.fixture
    def pair(self, vision: Vision) -> Pair:
        return vision


class TestRaw(ByteStreamContract):
    """Past the outer TLS, both ways."""

    @pytest.fixture
    async def pair(self, vision: Vision) -> Pair:
        await go_raw(vision)
        return vision


def test_the_request_names_the_flow() -> None:
    assert request_header(ID, Destination("h.test", 443), "xtls-rprx-vision") == HEADER


async def test_raw_is_the_base_itself_both_ways(vision: Vision) -> None:
    await go_raw(vision)
    assert vision.codec.blocks[-1][:2] == (RAW, DATA)
    assert (vision.near.headroom, vision.near.record, vision.near.overhead) == (0, 1, 0)
    sock, loop = vision.far.sock, asyncio.get_running_loop()
    await write_all(vision.near, b"up")
    assert await loop.sock_recv(sock, 99) == b"up"
    await loop.sock_sendall(sock, b"down")
    assert await read_exactly(vision.near, 4) == b"down"


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize("raw", [DATA * 3, os.urandom(40_000)], ids=["records", "anything"])
async def test_what_comes_behind_the_last_block_is_never_opened(
    vision: Vision, piece: int, raw: bytes
) -> None:
    await say_hello(vision)
    raw = raw[: 2000 * piece]  # in pieces of a byte, more takes long and shows nothing new
    wire = vision.codec.seal(DATA) + vision.codec.last_block(RAW, DATA) + raw
    await asyncio.gather(
        vision.far.send_wire(wire, piece=piece),
        expect(vision.near, DATA + DATA + raw),
    )
    vision.far.cut()
    assert await read_once(vision.near) == b""


async def expect(stream: ByteStream, data: bytes) -> None:
    assert await read_exactly(stream, len(data)) == data


async def test_a_server_may_stay_inside(vision: Vision) -> None:
    await say_hello(vision)
    await vision.far.send_wire(vision.codec.last_block(PLAIN, DATA) + vision.codec.seal(b"more"))
    assert await read_exactly(vision.near, len(DATA) + 4) == DATA + b"more"
    await vision.far.end()
    assert await read_once(vision.near) == b""


async def test_one_direction_may_go_raw_alone(vision: Vision) -> None:
    await say_hello(vision)
    await vision.far.send_wire(vision.codec.last_block(RAW, DATA) + b"raw")
    assert await read_exactly(vision.near, len(DATA) + 3) == DATA + b"raw"
    await write_all(vision.near, b"padded")
    assert await vision.far.receive(6) == b"padded"
    assert vision.codec.blocks[-1][0] == CONTINUE


async def test_a_silent_client_sends_one_empty_block(vision: Vision) -> None:
    while not vision.codec.blocks:
        await vision.far.step()
    [(command, content, padding)] = vision.codec.blocks
    assert (command, content) == (CONTINUE, b"")
    assert padding >= 900
    await vision.far.send(b"the server speaks first")
    assert await read_exactly(vision.near, 23) == b"the server speaks first"


async def test_records_that_reads_cut_are_put_together_again(vision: Vision) -> None:
    """A pump cuts where its block ends; the padding ends with the next whole record."""
    await say_hello(vision)
    stream = DATA * 4
    await write_all(vision.near, stream[:50])
    await write_all(vision.near, stream[50:])
    assert await vision.far.receive(len(stream)) == stream
    assert [command for command, *_ in vision.codec.blocks[1:]] == [CONTINUE, CONTINUE, RAW]


async def test_an_end_waits_for_what_is_held_back(vision: Vision) -> None:
    """Padding makes more of a write than the kernel may take."""
    data = os.urandom(1 << 20)
    sent = 0
    while vision.near.room():
        sent += take(vision.near, data[sent : sent + 5000])
    vision.near.write_eof()
    received, _ = await asyncio.gather(vision.far.receive_all(), settle(vision.near))
    assert received == data[:sent]


async def test_a_server_without_tls13_is_refused(certificate: Certificate) -> None:
    with pytest.raises(HandshakeError, match=r"Vision needs TLS 1\.3"):
        async for _ in make_vision(
            certificate, BASES["tcp"], ssl.TLSVersion.TLSv1_2, OpenSslClient
        ):
            pass


@pytest.mark.parametrize("cuts", [(), (1,), (3, 4), (50, 106, 170), (105, 107)])
def test_records_are_found_behind_any_cut(cuts: tuple[int, ...]) -> None:
    records, stream = InnerRecords(), DATA * 3
    sizes, at = [], 0
    for cut in (*cuts, len(stream)):
        while at < cut:
            sizes.append(records.take(memoryview(stream[at:cut])))
            assert sizes[-1] > 0
            at += sizes[-1]
    assert sizes[-1] % len(DATA) == 0


def test_what_is_no_tls_is_never_cut() -> None:
    records = InnerRecords()
    for size in (3, 9000, 1):
        assert records.take(memoryview(bytes(size))) == size
