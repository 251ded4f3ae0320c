"""One plain HTTP request and its response between a client and an origin (RFC 9110 §7)."""

from __future__ import annotations

import asyncio

import h11

from circumvent.api.exchange import receive, send
from circumvent.api.streams import ByteStream
from circumvent.errors import ProtocolError, StreamResetError
from circumvent.memory import Account
from circumvent.net.pump import pump
from circumvent.proxy.visit import Visit
from circumvent.wire.http_proxy import Target, end_to_end, upgrade_of

PIECE = 16 * 1024  # one TLS record or Shadowsocks chunk: what a stream gives at once
SWITCHING_PROTOCOLS = 101


class Exchange:
    """Streams both ways at once: an origin may answer before it has the whole request.

    Owns ``origin``, a fresh stream: one request each, so that none is ever sent twice because
    an origin closed a connection that was kept.
    """

    def __init__(self, visit: Visit, server: h11.Connection, origin: ByteStream) -> None:
        self._visit = visit
        self._account = visit.house.account
        self._server = server
        self._origin = origin
        self._client = h11.Connection(h11.CLIENT, visit.house.options.max_head)

    async def run(self, request: h11.Request, target: Target) -> None:
        """Until the response is complete; raises CircumventError when it cannot be."""
        try:
            await self._to_origin(_for_origin(request, target))
            if await self._both_ways():
                await self._switch()
        except h11.ProtocolError as error:
            self._origin.abort()
            raise ProtocolError("not proper HTTP/1.1", stage="exchange") from error
        except BaseException:
            self._origin.abort()
            raise
        await self._origin.aclose()

    async def _both_ways(self) -> bool:
        try:
            async with asyncio.TaskGroup() as tasks:
                upload = tasks.create_task(self._upload())
                switched = await self._download()
                upload.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return switched

    async def _upload(self) -> None:
        """The request's body, if it has one."""
        while isinstance(event := await self._client_event(), h11.Data):
            if not await self._to_origin(event):
                return
        await self._to_origin(h11.EndOfMessage())

    async def _download(self) -> bool:
        """The response; True when it switched to another protocol."""
        while True:
            event = await self._origin_event()
            if isinstance(event, h11.InformationalResponse):
                await self._to_client(_informational(event))
                if event.status_code == SWITCHING_PROTOCOLS:
                    return True
            elif isinstance(event, h11.Response):
                await self._to_client(_final(event, closing=self._visit.house.closing))
            elif isinstance(event, h11.Data):
                await self._to_client(event)
            elif isinstance(event, h11.EndOfMessage):
                await self._to_client(h11.EndOfMessage())
                return False
            else:
                raise ProtocolError("the origin left without an answer", stage="exchange")

    async def _client_event(self) -> object:
        return await _next_event(self._server, self._visit.stream, self._account)

    async def _origin_event(self) -> object:
        return await _next_event(self._client, self._origin, self._account)

    async def _switch(self) -> None:
        """Raw bytes from here on (RFC 9110 §7.8), what was read too far first."""
        client, origin, account = self._visit.stream, self._origin, self._account
        await _pass_on(client, self._client.trailing_data[0], account)
        await _pass_on(origin, self._server.trailing_data[0], account)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(pump(client, origin, account, _uncounted))
                tasks.create_task(pump(origin, client, account, _uncounted))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _to_origin(self, event: h11.Event) -> bool:
        """False when the origin takes no more: it may have answered, which the download tells."""
        data = self._client.send(event) or b""
        try:
            await _pass_on(self._origin, data, self._account)
        except StreamResetError:
            return False
        return True

    async def _to_client(self, event: h11.Event) -> None:
        await _pass_on(self._visit.stream, self._server.send(event) or b"", self._account)


async def _next_event(side: h11.Connection, stream: ByteStream, account: Account) -> object:
    while (event := side.next_event()) is h11.NEED_DATA:
        side.receive_data(await receive(stream, account, PIECE))
    return event


def _uncounted(count: int) -> None:
    """What the pump tells where nobody counts."""


async def _pass_on(sink: ByteStream, data: bytes, account: Account) -> None:
    """Send ``data`` in pieces that fit: no lease is held while a slow sink is waited for."""
    rest = memoryview(data)
    while rest:
        room = min(sink.room(), PIECE)
        if room:
            await send(sink, account, bytes(rest[:room]))
            rest = rest[room:]
        else:
            await sink.wait_writable()


def _for_origin(request: h11.Request, target: Target) -> h11.Request:
    """The request as the origin shall see it; Host follows the target (RFC 9112 §3.2.2)."""
    headers = request.headers.raw_items()
    kept = [header for header in end_to_end(headers) if header[0].lower() != b"host"]
    connection = upgrade_of(headers) or [(b"Connection", b"close")]
    return h11.Request(
        method=request.method,
        target=target.origin_form,
        headers=[(b"Host", target.authority), *kept, *connection],
    )


def _informational(event: h11.InformationalResponse) -> h11.InformationalResponse:
    headers = event.headers.raw_items()
    switch = upgrade_of(headers) if event.status_code == SWITCHING_PROTOCOLS else []
    return h11.InformationalResponse(
        status_code=event.status_code,
        headers=[*end_to_end(headers), *switch],
        reason=event.reason,
    )


def _final(event: h11.Response, *, closing: bool) -> h11.Response:
    close = [(b"Connection", b"close")] if closing else []
    return h11.Response(
        status_code=event.status_code,
        headers=[*end_to_end(event.headers.raw_items()), *close],
        reason=event.reason,
    )
