"""Vision with mihomo's server, over TLS and over REALITY: padded, and raw with TLS 1.3 inside."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from circumvent.api import ByteStream, TlsOptions
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.net.pump import pump
from circumvent.net.tcp import TcpStream
from circumvent.testing.far_end import connected
from circumvent.testing.steps import read_exactly, read_once, settle, write_all
from circumvent.wire.address import Destination
from circumvent_plugins.vless import Vless
from tests.interop.echoing import PIECE, SIZES, assert_echoed, echo, serving
from tests.peers.certificates import SERVER_NAME, Certificate
from tests.peers.servers import mihomo_server
from tests.peers.services import HOST, VLESS_REALITY_VISION, VLESS_VISION

GREETING = b"220 the server speaks first\r\n"


def context_of(certificate: Certificate) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_cert_chain(certificate.chain, certificate.key)
    return made


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Back comes as much as is announced, and a greeting; TLS of asyncio has no half-close."""
    left = int.from_bytes(await reader.readexactly(8))
    while left:
        data = await reader.read(min(left, 1 << 18))
        left -= len(data)
        writer.write(data)
        await writer.drain()
    writer.write(GREETING)
    await reader.read()
    writer.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    await echo(reader, writer)


async def echo_all_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read())
    writer.close()


class Place:
    """A server, and what a link to it says."""

    def __init__(self, link: str, certificate: Certificate) -> None:
        self.link = link
        self.engine = TlsClient(str(certificate.authority))

    async def open(self, port: int) -> ByteStream:
        transport = Vless()
        account = Memory(8 << 20).account("test")
        dialer = NetDialer(self.engine)
        tunnel = await transport.connect(transport.parse(self.link), dialer, account)
        return await tunnel.open(Destination(HOST, port))


@pytest.fixture(scope="module", params=[VLESS_VISION, VLESS_REALITY_VISION], ids=["tls", "reality"])
def place(
    request: pytest.FixtureRequest, folder: Path, certificate: Certificate
) -> Iterator[Place]:
    with mihomo_server(request.param, folder, certificate) as server:
        yield Place(server.link, certificate)


def is_raw(stream: ByteStream) -> bool:
    """Whether nothing of ours is between the stream and TCP, in both directions."""
    return (stream.headroom, stream.record, stream.overhead) == (0, 1, 0)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("size", SIZES)
async def test_what_is_no_tls_arrives_whole_both_ways(place: Place, size: int) -> None:
    async with serving(echo) as port:
        stream = await place.open(port)
        await assert_echoed(stream, size)
        assert not is_raw(stream)
        await stream.aclose()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("size", SIZES)
async def test_tls13_inside_goes_raw_and_arrives_whole_both_ways(
    place: Place, certificate: Certificate, size: int
) -> None:
    async with serving(answer, context_of(certificate)) as port:
        stream = await place.open(port)
        inner = await place.engine.start(stream, TlsOptions(SERVER_NAME))
        data = os.urandom(size)

        async def send() -> None:
            await write_all(inner, size.to_bytes(8))
            for at in range(0, size, PIECE):
                await write_all(inner, data[at : at + PIECE])

        async def receive() -> bytes:
            digest, left = hashlib.sha256(), size + len(GREETING)
            while left:
                piece = await read_once(inner)
                assert piece
                digest.update(piece)
                left -= len(piece)
            return digest.digest()

        _, back = await asyncio.gather(send(), receive())
        assert back == hashlib.sha256(data + GREETING).digest()
        assert is_raw(stream)
        await inner.aclose()


@pytest.mark.timeout(180)
async def test_the_pump_of_a_client_with_tls13_goes_raw_too(
    place: Place, certificate: Certificate
) -> None:
    """It cuts where its blocks end, and not where records do."""
    data, account = os.urandom(10_000_000), Memory(8 << 20).account("pump")
    client = ssl.create_default_context(cafile=str(certificate.authority))
    near, sock = connected(small=PIECE, receive=PIECE)
    sock.setblocking(False)
    async with serving(answer, context_of(certificate)) as port:
        stream, local = await place.open(port), TcpStream(near)
        pumps = asyncio.gather(
            pump(local, stream, account, lambda _: None),
            pump(stream, local, account, lambda _: None),
        )
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=client, server_hostname=SERVER_NAME
        )
        writer.write(len(data).to_bytes(8) + data)
        assert await reader.readexactly(len(data) + len(GREETING)) == data + GREETING
        assert is_raw(stream)
        writer.close()
        await pumps
        await stream.aclose()
        await local.aclose()


@pytest.mark.parametrize("is_tls", [False, True])
async def test_the_server_may_speak_first(
    place: Place, certificate: Certificate, *, is_tls: bool
) -> None:
    async with serving(greet, context_of(certificate) if is_tls else None) as port:
        stream = await place.open(port)
        if is_tls:
            stream = await place.engine.start(stream, TlsOptions(SERVER_NAME))
        assert await read_exactly(stream, len(GREETING)) == GREETING
        await write_all(stream, b"answer")
        assert await read_exactly(stream, 6) == b"answer"
        await stream.aclose()


async def test_our_end_leaves_the_way_back_open(place: Place) -> None:
    async with serving(echo_all_at_the_end) as port:
        stream = await place.open(port)
        await write_all(stream, b"a question")
        stream.write_eof()
        await settle(stream)
        assert await read_exactly(stream, 10) == b"a question"
        assert await read_once(stream) == b""
        await stream.aclose()
