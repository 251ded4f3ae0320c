"""HTTP and WebSockets over our streams, with servers and clients that others wrote."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from circumvent.api import Account, ByteStream, HandshakeError, TlsOptions
from circumvent.http.client import http_client, limited_body
from circumvent.layers.exchange import receive_flight
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.layer import TlsLayer
from circumvent.layers.websocket import WebSocketLayer, accept_websocket
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.net.pump import pump
from circumvent.net.tcp import TcpStream
from circumvent.testing.steps import read_all, read_exactly, write_all
from circumvent.wire.websocket_handshake import upgrade_key
from tests.peers.certificates import SERVER_NAME, Certificate
from tests.peers.nginx import FILES, SITE, nginx
from tests.peers.process import free_port

HIDDEN = "hidden.far.test"
HOST = "127.0.0.1"
SIZE = 20_000_000
PAGE = random.Random(0).randbytes(SIZE)
OURS, THEIRS = free_port(), free_port()
MIB = 1 << 20


@pytest.fixture(scope="module")
def site(folder: Path, certificate: Certificate) -> Iterator[int]:
    """The port of an nginx with a site, another one behind its name, and two WebSockets."""
    hidden = folder / "hidden"
    hidden.mkdir()
    (hidden / "bundle").write_bytes(PAGE)
    locations = FILES.format(root=hidden)
    sockets = "".join(
        SITE.format(path=path, port=behind, more="")
        for path, behind in (("/theirs", THEIRS), ("/ours", OURS))
    )
    with nginx(folder, certificate, {SERVER_NAME: sockets, HIDDEN: locations}) as port:
        yield port


@pytest.fixture
def dialer(certificate: Certificate) -> NetDialer:
    return NetDialer(TlsClient(str(certificate.authority)))


@pytest.fixture
def account() -> Account:
    return Memory(1 << 20).account("test")


@asynccontextmanager
async def librarys_server() -> AsyncIterator[None]:
    """Echoes, and pings all the time, as servers do to keep a connection open."""

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, HOST, THEIRS, ping_interval=0.01, max_size=MIB, compression=None):
        yield


async def open_websocket(dialer: NetDialer, site: int, path: str) -> ByteStream:
    options = TlsOptions(SERVER_NAME, alpn=("http/1.1",))
    stream = await TlsLayer(options).dial(partial(dialer.tcp, HOST, site))
    return await WebSocketLayer(SERVER_NAME, path).start(stream)


class TestHttp:
    async def test_a_hidden_site_is_fetched_through_the_name_of_its_front(
        self, dialer: NetDialer, account: Account, site: int
    ) -> None:
        digest = hashlib.sha256()
        headers = {"Host": HIDDEN}
        async with (
            http_client(dialer, account, tls=lambda _: TlsOptions(SERVER_NAME)) as session,
            session.get(f"https://{HOST}:{site}/bundle", headers=headers) as response,
        ):
            async for piece in limited_body(response, SIZE):
                digest.update(piece)
        assert digest.digest() == hashlib.sha256(PAGE).digest()
        assert account.high_water < MIB

    async def test_a_cut_download_goes_on_where_it_stopped(
        self, dialer: NetDialer, account: Account, site: int
    ) -> None:
        headers = {"Host": HIDDEN, "Range": f"bytes={SIZE - 10}-"}
        async with (
            http_client(dialer, account, tls=lambda _: TlsOptions(SERVER_NAME)) as session,
            session.get(f"https://{HOST}:{site}/bundle", headers=headers) as response,
        ):
            assert response.status == 206
            assert await response.read() == PAGE[-10:]


class TestWebSocket:
    @pytest.mark.parametrize("way", ["straight", "through nginx"])
    async def test_the_librarys_server_echoes(self, dialer: NetDialer, site: int, way: str) -> None:
        data = random.Random(1).randbytes(8 * MIB)
        async with librarys_server():
            stream: ByteStream
            if way == "straight":
                tcp = await dialer.tcp(HOST, THEIRS)
                stream = await WebSocketLayer(HOST, "/theirs").start(tcp)
            else:
                stream = await open_websocket(dialer, site, "/theirs")
            async with asyncio.TaskGroup() as group:
                group.create_task(write_all(stream, data))
                echoed = group.create_task(read_exactly(stream, len(data)))
            assert echoed.result() == data
            await stream.aclose()

    async def test_the_library_answers_our_close_frame(self, dialer: NetDialer, site: int) -> None:
        async with librarys_server():
            stream = await open_websocket(dialer, site, "/theirs")
            stream.write_eof()
            assert await read_all(stream) == b""
            await stream.aclose()

    async def test_nobody_behind_nginx_is_a_refusal(self, dialer: NetDialer, site: int) -> None:
        with pytest.raises(HandshakeError, match="status 502"):
            await open_websocket(dialer, site, "/theirs")

    async def test_no_websocket_at_that_path_is_a_refusal(
        self, dialer: NetDialer, site: int
    ) -> None:
        with pytest.raises(HandshakeError, match="status 404"):
            await open_websocket(dialer, site, "/elsewhere")

    async def test_the_librarys_client_is_echoed_through_nginx(
        self, site: int, certificate: Certificate, account: Account
    ) -> None:
        serving = asyncio.ensure_future(serve_once(account))
        data = random.Random(2).randbytes(4 * MIB)
        async with connect(
            f"wss://{SERVER_NAME}:{site}/ours",
            host=HOST,
            ssl=ssl.create_default_context(cafile=certificate.authority),
            max_size=None,
            proxy=None,
        ) as client:
            sending = asyncio.ensure_future(client.send(data))
            echoed = b""
            while len(echoed) < len(data):
                message = await client.recv()
                assert isinstance(message, bytes)
                echoed += message
            await sending
        assert echoed == data
        await serving


async def serve_once(account: Account) -> None:
    """One WebSocket connection, echoed by our own pump."""
    loop = asyncio.get_running_loop()
    with socket.create_server((HOST, OURS)) as listener:
        listener.setblocking(False)
        sock, _ = await loop.sock_accept(listener)
    sock.setblocking(False)
    stream = TcpStream(sock)
    head = await receive_flight(stream)
    headers = [line.partition(b": ")[::2] for line in head.split(b"\r\n")[1:-2]]
    accepted = await accept_websocket(stream, upgrade_key(headers))
    await pump(accepted, accepted, account, lambda _: None)
    await accepted.aclose()
