"""One plain HTTP request and its answer between a client and an origin (RFC 9110 §7).

Heads are read and written anew; bodies go from stream to stream as the pump moves everything, and
are only watched for where they end. While nothing moves, nothing of the arena is held, except for
the part of an answer's head that came without the rest.
"""

from __future__ import annotations

import asyncio

from circumvent.api.streams import ByteStream
from circumvent.errors import StreamResetError
from circumvent.inbound.connection import ClientConnection
from circumvent.inbound.message_streams import BodyStream, RequestBodyStream
from circumvent.inbound.partial_head import PartialHead
from circumvent.layers.exchange import send
from circumvent.memory import Lease
from circumvent.net.pump import pump, release_when_sent, transfer
from circumvent.wire.http_forwarding import ForwardedHeads, request_head
from circumvent.wire.http_heads import SWITCHING_PROTOCOLS, HttpRequest, HttpResponse
from circumvent.wire.http_proxy import Target


class Exchange:
    """Streams both ways at once: an origin may answer before it has the whole request.

    The origin's stream is a fresh one: one request each, so that none is ever sent twice because
    an origin closed a connection that was kept. ``is_answered`` once the client may have seen
    something of the final answer.
    """

    __slots__ = (
        "_account",
        "_connection",
        "_head",
        "_heads",
        "_is_sent",
        "_partial",
        "_request",
        "destination",
        "is_answered",
    )

    def __init__(self, connection: ClientConnection, request: HttpRequest, target: Target) -> None:
        context = connection.context
        self._connection = connection
        self._account = context.account
        self._head = request_head(request, target)
        self._request = request.body
        self._heads = ForwardedHeads(request)
        self._partial = PartialHead(context.account, context.options.timings.answer_head)
        self._is_sent = False
        self.destination = target.destination
        self.is_answered = False

    async def run(self, origin: ByteStream) -> bool:
        """Run until the answer is complete; whether the client may send another request.

        Owns ``origin``. Raises CircumventError when the answer cannot be completed.
        """
        try:
            await self._send_head(origin)
            async with asyncio.TaskGroup() as tasks:
                await self._both_ways(origin, tasks)
        except asyncio.CancelledError:
            if self._is_sent:  # the client left, but its request may still be on its way
                await origin.aclose()
            raise
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        else:
            await origin.aclose()
        finally:
            origin.abort()
            self._partial.release()
        is_closing = self._connection.context.is_closing
        return self._heads.keeps_alive and self._request.is_over and not is_closing

    async def _both_ways(self, origin: ByteStream, tasks: asyncio.TaskGroup) -> None:
        client, account = self._connection.stream, self._account
        upload: asyncio.Task[None] | None = None
        if not self._request.is_over:
            upload = tasks.create_task(self._upload(origin))
        answer = await self._pass_heads(origin)
        is_switched = answer.status == SWITCHING_PROTOCOLS
        if is_switched:
            if upload is not None:
                await upload
            tasks.create_task(self._upload_anything(origin))
        if not answer.body.is_over:
            await transfer(BodyStream(origin, answer.body), client, account, _uncounted)
        if is_switched:
            client.write_eof()
        elif upload is not None:
            upload.cancel()

    async def _send_head(self, origin: ByteStream) -> None:
        head, self._head = self._head, b""
        await send(origin, self._account, head)
        self._is_sent = self._request.is_over

    async def _upload(self, origin: ByteStream) -> None:
        """Send the request's body. An origin that takes no more may have answered already."""
        try:
            body = RequestBodyStream(self._connection.stream, self._request)
            await transfer(body, origin, self._account, _uncounted)
        except StreamResetError:
            return
        self._is_sent = True

    async def _upload_anything(self, origin: ByteStream) -> None:
        """Send raw bytes, after a switch (RFC 9110 §7.8)."""
        self._connection.is_tunnel, self._is_sent = True, False
        await pump(self._connection.stream, origin, self._account, _uncounted)
        self._is_sent = True

    async def _pass_heads(self, origin: ByteStream) -> HttpResponse:
        """Pass on all heads up to the final one, and the part of the body that came with it."""
        client = self._connection.stream
        while True:
            await self._partial.wait_for_more(origin)
            if not client.room():
                await client.wait_writable()
                continue
            known = self._partial.size
            lease, end = await self._partial.read(origin)
            try:
                start, end, answer = self._pass_block(lease, end, known)
            except BaseException:
                client.unsent = None  # the block goes back, and must not be used again
                lease.release()
                raise
            await release_when_sent(lease, client, self._account, start, end)
            if answer is not None:
                return answer

    def _pass_block(
        self, lease: Lease, end: int, known: int
    ) -> tuple[int, int, HttpResponse | None]:
        """Where the bytes for the client start and end that it has not taken yet; the answer."""
        client, view = self._connection.stream, lease.view
        is_closing = self._connection.context.is_closing
        heads, at, answer = self._heads.take_answers(view[:end], known, is_closing=is_closing)
        if heads:
            client.write(memoryview(heads), 0, len(heads))
        if answer is None:
            self._partial.keep(view[at:end])
            return end, end, None
        self.is_answered = True
        end = at + answer.body.take(view[at:end])
        if at < end and client.unsent is None:
            at += client.write(view, at, end)
        return at, end, answer


def _uncounted(count: int) -> None:
    """For the pump, which reports what it moved: it is not counted here."""
