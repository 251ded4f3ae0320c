"""HTTP over the Dialer, against a real aiohttp server."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache

import aiohttp
import pytest
from aiohttp import web

from circumvent.api import Account, DialError, HandshakeError, ProtocolError, TlsOptions
from circumvent.http.client import http_client, limited_body, web_tls
from circumvent.http.limits import MAX_HEAD, MAX_UNSENT, READ_BUFFER
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import LARGEST, Memory
from circumvent.net.dialer import NetDialer
from tests.peers.certificates import SERVER_NAME, Certificate
from tests.peers.process import free_port

PIECE = 16 * 1024
LARGE = 8 * 1024 * 1024  # more than the kernel keeps for both ends of a connection
HOST = "127.0.0.1"


class Site:
    """A web site with some odd corners; counts what it sees."""

    def __init__(self) -> None:
        self.port = 0
        self.peers: set[object] = set()
        self.hosts: list[str] = []
        self.agents: list[str | None] = []
        self.received = 0
        self.is_asked = asyncio.Event()
        self.may_read = asyncio.Event()
        self.sent = 0
        self.transports: list[asyncio.Transport | None] = []

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2 * LARGE)
        app.add_routes(
            [
                web.get("/hello", self.hello),
                web.post("/count", self.count),
                web.get("/flood", self.flood),
                web.get("/cut", self.cut),
            ]
        )
        return app

    async def hello(self, request: web.Request) -> web.Response:
        self.peers.add(request.transport.get_extra_info("peername") if request.transport else None)
        self.hosts.append(request.host)
        self.agents.append(request.headers.get("User-Agent"))
        return web.Response(text="hello")

    async def count(self, request: web.Request) -> web.Response:
        self.transports.append(request.transport)
        self.is_asked.set()
        await self.may_read.wait()
        async for piece in request.content.iter_any():
            self.received += len(piece)
        return web.Response(text=str(self.received))

    async def flood(self, request: web.Request) -> web.StreamResponse:
        self.transports.append(request.transport)
        response = web.StreamResponse()
        await response.prepare(request)
        while self.sent < LARGE:
            await response.write(bytes(PIECE))
            self.sent += PIECE
        return response

    async def cut(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response


@cache
def server_context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    return context


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def site(scheme: str, certificate: Certificate) -> AsyncIterator[Site]:
    site = Site()
    context = server_context(certificate) if scheme == "https" else None
    runner = web.AppRunner(site.app(), shutdown_timeout=0.01)
    await runner.setup()
    site.port = free_port()
    await web.TCPSite(runner, HOST, site.port, ssl_context=context).start()
    yield site
    await runner.cleanup()
    for transport in site.transports:
        if transport is not None:
            transport.abort()  # it may still have bytes that nobody will take
    await asyncio.sleep(0)


@pytest.fixture
def account() -> Account:
    return Memory(1 << 20).account("test")


@pytest.fixture(scope="module")
def trusting(certificate: Certificate) -> TlsClient:
    """Reading the system's certificates takes longer than most of the tests."""
    return TlsClient(str(certificate.authority))


@pytest.fixture
def dialer(trusting: TlsClient) -> NetDialer:
    return NetDialer(trusting)


@pytest.fixture
async def session(dialer: NetDialer, account: Account) -> AsyncIterator[aiohttp.ClientSession]:
    async with http_client(dialer, account) as session:
        yield session
    assert account.leased == 0
    assert not [task for task in asyncio.all_tasks() if "StreamTransport" in repr(task)]


@pytest.fixture
def url(scheme: str, site: Site) -> str:
    return f"{scheme}://{HOST}:{site.port}"


@asynccontextmanager
async def raw_server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """A server that does as it likes after a request; yields its URL."""

    serving: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving[asyncio.current_task()] = writer
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, HOST, ssl=tls)
    async with server:
        yield f"http{'s' if tls else ''}://{HOST}:{server.sockets[0].getsockname()[1]}/"
    for writer in serving.values():
        writer.transport.abort()
    await asyncio.gather(*filter(None, serving), return_exceptions=True)


async def pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // PIECE):
        yield bytes(PIECE)


class TestExchanges:
    async def test_requests_share_a_connection(
        self, session: aiohttp.ClientSession, site: Site, url: str
    ) -> None:
        for _ in range(3):
            async with session.get(f"{url}/hello") as response:
                assert await response.text() == "hello"
        assert len(site.peers) == 1
        assert site.agents == [None, None, None], "nothing names the program"

    async def test_a_front_sees_its_own_name_and_the_request_another(
        self, session: aiohttp.ClientSession, site: Site, url: str
    ) -> None:
        async with session.get(f"{url}/hello", headers={"Host": "hidden.test"}) as response:
            assert response.status == 200
        assert site.hosts == ["hidden.test"]

    async def test_a_large_body_arrives(
        self, session: aiohttp.ClientSession, site: Site, url: str
    ) -> None:
        site.may_read.set()
        async with session.post(f"{url}/count", data=pieces(LARGE)) as response:
            assert await response.text() == str(LARGE)

    async def test_a_large_answer_arrives(self, session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(f"{url}/flood") as response:
            received = [len(piece) async for piece in limited_body(response, LARGE)]
        assert sum(received) == LARGE
        assert max(received) <= 2 * READ_BUFFER + LARGEST


class TestBounds:
    async def test_a_server_that_does_not_read_stops_the_sender(
        self, session: aiohttp.ClientSession, site: Site, url: str, account: Account
    ) -> None:
        given = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal given
            async for piece in pieces(LARGE):
                given += len(piece)
                yield piece

        asking = asyncio.ensure_future(session.post(f"{url}/count", data=counted()))
        await asyncio.sleep(0.1)
        assert given < LARGE
        assert account.leased == 0, "nothing is leased while it waits"
        site.may_read.set()
        async with await asking as response:
            assert await response.text() == str(LARGE)

    async def test_a_client_that_does_not_read_stops_the_server(
        self, session: aiohttp.ClientSession, site: Site, url: str, account: Account
    ) -> None:
        async with session.get(f"{url}/flood") as response:
            await asyncio.sleep(0.1)
            stopped_at = site.sent
            assert stopped_at < LARGE
            assert account.leased == 0
            assert response.content.total_bytes <= 4 * READ_BUFFER
            assert len(await response.read()) == LARGE

    async def test_leaving_in_the_middle_leaves_nothing_behind(
        self, session: aiohttp.ClientSession, url: str
    ) -> None:
        async with session.get(f"{url}/flood") as response:
            await response.content.readexactly(10)

    async def test_leaving_while_the_server_does_not_read_does_not_wait_for_it(
        self, session: aiohttp.ClientSession, site: Site, url: str
    ) -> None:
        asking = asyncio.ensure_future(session.post(f"{url}/count", data=pieces(LARGE)))
        await site.is_asked.wait()
        await asyncio.sleep(0.02)
        asking.cancel()
        await asyncio.wait([asking])

    async def test_a_body_over_the_limit_is_refused_while_it_comes(
        self, session: aiohttp.ClientSession, site: Site, url: str
    ) -> None:
        async with session.get(f"{url}/flood") as response:
            with pytest.raises(ProtocolError, match="more than the 1000 bytes"):
                async for _ in limited_body(response, 1000):
                    pass
        assert site.sent < LARGE

    async def test_one_huge_piece_is_refused_not_queued(
        self, session: aiohttp.ClientSession, url: str
    ) -> None:
        with pytest.raises(aiohttp.ClientError):
            await session.post(f"{url}/count", data=bytes(MAX_UNSENT + 1))

    async def test_a_head_without_end_is_refused(self, dialer: NetDialer, account: Account) -> None:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n")
            for number in range(60):
                writer.write(b"X-%d: %s\r\n" % (number, b"x" * 8000))
                await writer.drain()

        async with raw_server(serve) as url, http_client(dialer, account) as session:
            with pytest.raises(aiohttp.ClientError, match=f"more than {MAX_HEAD} bytes"):
                await session.get(url)

    async def test_trailers_without_end_are_refused(
        self, dialer: NetDialer, account: Account
    ) -> None:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
            for number in range(60):
                writer.write(b"X-%d: %s\r\n" % (number, b"x" * 8000))
                await writer.drain()

        async with (
            raw_server(serve) as url,
            http_client(dialer, account) as session,
            session.get(url) as response,
        ):
            with pytest.raises(aiohttp.ClientError, match=f"more than {MAX_HEAD} bytes"):
                await response.read()

    async def test_no_more_connections_than_asked_for(
        self, dialer: NetDialer, account: Account
    ) -> None:
        now = most = 0

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

        async with (
            raw_server(serve) as url,
            http_client(dialer, account, connections=2) as session,
        ):
            await asyncio.gather(*(session.get(url) for _ in range(6)))
        assert most == 2


class TestFailures:
    async def test_a_refused_connection_is_a_dial_error(
        self, session: aiohttp.ClientSession
    ) -> None:
        with pytest.raises(DialError, match="refused"):
            await session.get(f"http://{HOST}:{free_port()}")

    async def test_a_broken_answer_is_an_error_of_the_body(
        self, session: aiohttp.ClientSession, url: str
    ) -> None:
        async with session.get(f"{url}/cut") as response:
            with pytest.raises(aiohttp.ClientError):
                await response.read()

    async def test_a_proxy_is_refused(self, session: aiohttp.ClientSession, url: str) -> None:
        with pytest.raises(Exception, match="bypass the tunnels"):
            await session.get(f"{url}/hello", proxy="http://127.0.0.1:1")

    async def test_an_error_of_the_caller_is_raised_unchanged(
        self, dialer: NetDialer, account: Account
    ) -> None:
        with pytest.raises(LookupError):
            async with http_client(dialer, account):
                raise LookupError


class TestTls:
    @pytest.fixture
    def scheme(self) -> str:
        return "https"

    async def test_a_certificate_of_an_unknown_authority_is_refused(
        self, site: Site, account: Account
    ) -> None:
        async with http_client(NetDialer(TlsClient()), account) as session:
            with pytest.raises(HandshakeError, match="not valid"):
                await session.get(f"https://{HOST}:{site.port}/hello")

    async def test_the_caller_chooses_the_pin(
        self, site: Site, account: Account, certificate: Certificate
    ) -> None:
        def pinned(host: str) -> TlsOptions:
            return TlsOptions(host, certificate_sha256=(bytes.fromhex(certificate.sha256),))

        async with (
            http_client(NetDialer(TlsClient()), account, tls=pinned) as session,
            session.get(f"https://{HOST}:{site.port}/hello") as response,
        ):
            assert response.status == 200

    @pytest.mark.parametrize("length", [b"", b"Content-Length: 4\r\n"])
    async def test_a_cut_ends_only_a_body_that_has_a_length(
        self, dialer: NetDialer, account: Account, certificate: Certificate, length: bytes
    ) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n%b\r\nbody" % length)
            await writer.drain()
            writer.get_extra_info("socket").shutdown(socket.SHUT_WR)  # without close_notify
            await reader.read()

        async with (
            raw_server(serve, server_context(certificate)) as url,
            http_client(dialer, account) as session,
            session.get(url) as response,
        ):
            if length:
                assert await response.read() == b"body"
            else:
                with pytest.raises(aiohttp.ClientPayloadError, match="it was cut"):
                    await response.read()

    def test_web_servers_are_asked_for_http_1(self) -> None:
        assert web_tls(SERVER_NAME) == TlsOptions(SERVER_NAME, alpn=("http/1.1",))
