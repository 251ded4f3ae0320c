"""Vision with mihomo's server, over TLS and over REALITY: padded, and raw with TLS 1.3 inside."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from circumvent.api import ByteStream, TlsOptions
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.net.pump import pump
from circumvent.net.tcp import TcpStream
from circumvent.testing.far_end import connected
from circumvent.testing.steps import read_exactly, read_once, settle, write_all
from circumvent.wire.address import Destination
from circumvent.wire.base64url import encode_base64url
from circumvent_plugins.vless import Vless
from tests.interop.echoing import PIECE, SIZES, assert_echoed
from tests.peers.certificates import SERVER_NAME, Certificate, make_certificate
from tests.peers.mihomo import HOST, mihomo_server

USER = str(uuid.uuid4())
SHORT_ID = "0123456789abcdef"
FLOW = "xtls-rprx-vision"
GREETING = b"220 the server speaks first\r\n"
Security = tuple[dict[str, object], str]  # of the server, and what a link says of it
Visit = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("vision"))


def context_of(certificate: Certificate) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_cert_chain(certificate.chain, certificate.key)
    return made


@asynccontextmanager
async def serving(visit: Visit, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Its port; what is still connected at the end is cut."""
    visits: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits[asyncio.ensure_future(visit(reader, writer))] = writer

    async with await asyncio.start_server(start, HOST, 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        for task, writer in visits.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*visits, return_exceptions=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 18):
        writer.write(data)
        await writer.drain()
    writer.close()


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


@asynccontextmanager
async def tls_security(certificate: Certificate) -> AsyncIterator[Security]:
    chain, key = certificate.chain.read_text(), certificate.key.read_text()
    yield {"certificate": chain, "private-key": key}, "security=tls"


@asynccontextmanager
async def reality_security(certificate: Certificate) -> AsyncIterator[Security]:
    secret = X25519PrivateKey.generate()
    public = encode_base64url(secret.public_key().public_bytes_raw())
    async with serving(echo, context_of(certificate)) as site_port:
        reality = {
            "dest": f"{HOST}:{site_port}",
            "private-key": encode_base64url(secret.private_bytes_raw()),
            "short-id": [SHORT_ID],
            "server-names": [SERVER_NAME],
        }
        yield {"reality-config": reality}, f"security=reality&pbk={public}&sid={SHORT_ID}"


@pytest.fixture(params=[tls_security, reality_security], ids=["tls", "reality"])
async def place(
    request: pytest.FixtureRequest, certificate: Certificate, tmp_path: Path
) -> AsyncIterator[Place]:
    user = {"username": "u", "uuid": USER, "flow": FLOW}
    async with request.param(certificate) as (security, words):
        with mihomo_server("vless", user, security, tmp_path) as port:
            link = f"vless://{USER}@{HOST}:{port}?{words}&flow={FLOW}&sni={SERVER_NAME}"
            yield Place(link, certificate)


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
