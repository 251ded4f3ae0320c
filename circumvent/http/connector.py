"""The session behind ``circumvent.http.client``: aiohttp's connection pool over the Dialer.

``BaseConnector`` is meant to be derived from, though its method has an underscore: so aiohttp is
pinned to one minor version, and the tests use all that is overridden here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import (
    BaseConnector,
    ClientPayloadError,
    ClientRequest,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
)
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace
from yarl import URL

from circumvent.api import Dialer, TlsOptions
from circumvent.api.streams import ByteStream
from circumvent.errors import UnsupportedError
from circumvent.http.limits import MAX_HEAD, MAX_HEADERS, READ_BUFFER
from circumvent.http.transport import StreamTransport
from circumvent.layers.tls.layer import TlsLayer
from circumvent.memory import Account

KEEP_ALIVE = 15.0  # seconds that a connection waits for the next request
DIAL_SECONDS = 30.0
HTTP_PORT = 80
SILENCE_SECONDS = 60.0  # between two reads of an answer


@asynccontextmanager
async def open_session(
    dialer: Dialer,
    account: Account,
    *,
    connections: int,
    tls: Callable[[str], TlsOptions],
    headers: Mapping[str, str] | None,
) -> AsyncIterator[ClientSession]:
    """See ``circumvent.http.client.http_client``."""
    connector = StreamConnector(dialer, account, tls, connections)
    session = ClientSession(
        connector=connector,
        headers={"Accept-Encoding": "identity", **(headers or {})},
        skip_auto_headers=("User-Agent",),
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(sock_connect=DIAL_SECONDS, sock_read=SILENCE_SECONDS),
        auto_decompress=False,
        read_bufsize=READ_BUFFER,
        max_headers=MAX_HEADERS,
    )
    try:
        yield session
    finally:
        connector.drop_stuck()
        await session.close()
        await connector.all_closed()


class StreamConnector(BaseConnector):
    """Makes each connection with the Dialer, and owns the task that serves it."""

    def __init__(
        self,
        dialer: Dialer,
        account: Account,
        tls: Callable[[str], TlsOptions],
        connections: int,
    ) -> None:
        super().__init__(limit=connections, keepalive_timeout=KEEP_ALIVE)
        self._dialer = dialer
        self._account = account
        self._tls = tls
        self._open: dict[asyncio.Task[None], StreamTransport] = {}

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],  # noqa: ARG002 - ours has none
        timeout: ClientTimeout,  # noqa: ASYNC109 - as in aiohttp
    ) -> ResponseHandler:
        if req.proxy:
            raise UnsupportedError(
                "an HTTP proxy would bypass the tunnels: leave it out", stage="dial"
            )
        async with asyncio.timeout(timeout.sock_connect):
            stream = await self._dial(req.url)
        handler = BoundedHandler(self._loop)
        transport = StreamTransport(stream, self._account, handler)
        handler.connection_made(transport)
        task = self._loop.create_task(transport.run())
        self._open[task] = transport
        task.add_done_callback(self._open.pop)
        return handler

    async def _dial(self, url: URL) -> ByteStream:
        host = url.raw_host or ""
        dial = partial(self._dialer.tcp, host, url.port or HTTP_PORT)
        return await (TlsLayer(self._tls(host)).dial(dial) if url.scheme == "https" else dial())

    def drop_stuck(self) -> None:
        """Cut connections whose peer does not take what waits for it."""
        for transport in self._open.values():
            if transport.get_write_buffer_size():
                transport.abort()

    async def all_closed(self) -> None:
        """Return when no connection is left."""
        if self._open:
            await asyncio.wait(self._open)


class BoundedHandler(ResponseHandler):
    """Refuses endless heads and trailers: aiohttp limits only each line of them.

    Refuses also a body that lasts until the connection ends, when the connection was cut.
    """

    _fruitless = 0

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(ClientPayloadError(str(exc)))
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._progress()
        super().data_received(data)
        self._fruitless = 0 if self._progress() != before else self._fruitless + len(data)
        if self._fruitless > MAX_HEAD:
            self._refuse()

    def _refuse(self) -> None:
        message = f"the server sends more than {MAX_HEAD} bytes that are no part of a body"
        error = ClientPayloadError(message)
        self.set_exception(error)
        if self._payload is not None:
            self._payload.set_exception(error)
        if self.transport is not None:
            self.transport.abort()

    def _progress(self) -> tuple[object, int]:
        return self._payload, self._payload.total_bytes if self._payload else 0
