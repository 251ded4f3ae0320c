"""One plain HTTP request and its answer between a client and an origin (RFC 9110 §7).

Heads are read and written anew; bodies go from stream to stream as the pump moves everything, and
are only watched for where they end. While nothing moves, nothing of the arena is held, but for the
part of an answer's head that came without the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from circumvent.api.streams import ByteStream, LayerStream, PeekStream
from circumvent.errors import DestinationError, ProtocolError, Reason, StreamResetError
from circumvent.inbound.connection import ClientConnection
from circumvent.memory import Account, Lease
from circumvent.net.pump import FIRST_READ, finish, keep, pump, transfer
from circumvent.net.readiness import NOW
from circumvent.wire.http_bodies import ANSWER, Body, Chunked, UntilClose
from circumvent.wire.http_heads import (
    SWITCHING_PROTOCOLS,
    Headers,
    HttpRequest,
    HttpResponse,
    format_head,
    may_be_over,
    parse_answer,
)
from circumvent.wire.http_proxy import Target, end_to_end, upgrade_of, wants_close, without

MAX_ANSWER_HEAD = 256 * 1024  # what Chromium takes, and more than curl does
HEAD_SECONDS = 60.0  # for the rest of a head that has begun, and is held until it is complete

_CLOSE = (b"Connection", b"close")


class Exchange:
    """Streams both ways at once: an origin may answer before it has the whole request.

    The origin's stream is a fresh one: one request each, so that none is ever sent twice because
    an origin closed a connection that was kept. ``is_answered`` once the client may have seen
    something of the final answer.
    """

    __slots__ = (
        "_account",
        "_begun",
        "_connection",
        "_head",
        "_is_head",
        "_is_old",
        "_is_sent",
        "_keeps_alive",
        "_request",
        "_size",
        "_upgrades",
        "destination",
        "is_answered",
    )

    def __init__(self, connection: ClientConnection, request: HttpRequest, target: Target) -> None:
        self._connection = connection
        self._account = connection.context.account
        self._head = _for_origin(request, target)
        self._request = request.body
        self._is_head = request.method == b"HEAD"
        self._is_old = request.is_old
        self._keeps_alive = not (request.is_old or wants_close(request.headers))
        self._upgrades = bool(upgrade_of(request.headers))
        self._begun: Lease | None = None  # of an answer's head that came in part
        self._size = 0  # bytes, of that part
        self._is_sent = False
        self.destination = target.destination
        self.is_answered = False

    async def run(self, origin: ByteStream) -> bool:
        """Until the answer is complete; whether the client may ask again on its connection.

        Owns ``origin``. Raises CircumventError when the answer cannot be completed.
        """
        try:
            await self._send_head(origin)
            async with asyncio.TaskGroup() as tasks:
                await self._both_ways(origin, tasks)
        except asyncio.CancelledError:
            if self._is_sent:  # the client left, but what it asked may still be on its way
                await origin.aclose()
            raise
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        else:
            await origin.aclose()
        finally:
            origin.abort()
            self._forget_begun()
        return self._keeps_alive and self._request.is_over and not self._connection.context.closing

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
            await transfer(_Body(origin, answer.body), client, account, _uncounted)
        if is_switched:
            client.write_eof()
        elif upload is not None:
            upload.cancel()

    async def _send_head(self, origin: ByteStream) -> None:
        head, self._head = self._head, b""
        while not origin.room():
            await origin.wait_writable()
        start = origin.headroom
        end = start + len(head)
        step = await self._account.step(end, end)
        step.view[start:end] = head
        await _pass_on(origin, self._account, step, start, end)
        self._is_sent = self._request.is_over

    async def _upload(self, origin: ByteStream) -> None:
        """The request's body. Where the origin takes no more it may have answered already."""
        try:
            body = _ClientBody(self._connection.stream, self._request)
            await transfer(body, origin, self._account, _uncounted)
        except StreamResetError:
            return
        self._is_sent = True

    async def _upload_anything(self, origin: ByteStream) -> None:
        """Raw bytes, after a switch (RFC 9110 §7.8)."""
        self._connection.is_tunnel, self._is_sent = True, False
        await pump(self._connection.stream, origin, self._account, _uncounted)
        self._is_sent = True

    async def _pass_heads(self, origin: ByteStream) -> HttpResponse:
        """Up to the final head, and what came with it of the body."""
        client = self._connection.stream
        deadline: float | None = None
        while True:
            await _speaks(origin, deadline)
            if not client.room():
                await client.wait_writable()
                continue
            known = self._size  # bytes in which no head ends
            lease, end = await self._read(origin)
            try:
                heads, at, answer = self._take_heads(lease.view[:end], known)
                if heads:
                    client.write(memoryview(heads), 0, len(heads))
                if answer is not None:
                    self.is_answered = True
                    end = at + answer.body.take(lease.view[at:end])
                elif at < end:
                    self._keep_begun(lease.view[at:end])
                    deadline = deadline or asyncio.get_running_loop().time() + HEAD_SECONDS
                    at = end
                else:
                    deadline = None
            except BaseException:
                lease.release()
                raise
            await _pass_on(client, self._account, lease, at, end)
            if answer is not None:
                return answer

    async def _read(self, origin: ByteStream) -> tuple[Lease, int]:
        """A block with all that has come of the next head, and where that ends."""
        most = max(origin.record, FIRST_READ + origin.overhead)
        lease = await self._account.step(origin.record, most)
        try:
            count = origin.read_into(lease.view[:most])
            if count == 0:
                raise _bad_answer(
                    "it ends before its head does" if self._begun else "there is none"
                )
            end = count or 0
            if self._begun is not None:
                start, end = self._size, self._size + end
                whole = self._account.hold(end)
                whole.view[:start] = self._begun.view[:start]
                whole.view[start:end] = lease.view[: end - start]
                lease.release()
                lease = whole
                self._forget_begun()
        except BaseException:
            lease.release()
            raise
        return lease, end

    def _take_heads(self, view: memoryview, known: int) -> tuple[bytes, int, HttpResponse | None]:
        """What the client shall see of the heads in ``view``, where they end, and the final one.

        No head ends in the first ``known`` bytes: who sends a long one byte by byte has no right to
        all our time.
        """
        heads, at = b"", 0
        is_new = may_be_over(view, known)
        while is_new and (found := parse_answer(view[at:], to_head=self._is_head)):
            answer, length = found
            at += length
            if not answer.is_final:
                heads += b"" if self._is_old else _informational(answer)
            elif answer.status != SWITCHING_PROTOCOLS:
                return heads + self._final(answer), at, answer
            elif self._upgrades:
                self._keeps_alive = False
                return heads + _informational(answer), at, answer
            else:
                raise _bad_answer("it changes to a protocol that nobody asked for")
        if len(view) - at > MAX_ANSWER_HEAD:
            raise _bad_answer(f"its head has more than {MAX_ANSWER_HEAD // 1024} KiB")
        return heads, at, None

    def _final(self, answer: HttpResponse) -> bytes:
        """How the client sees the final head; decides whether it may ask again."""
        headers = end_to_end(answer.headers)
        if self._is_old and isinstance(answer.body, Chunked):  # it knows no chunks
            answer.body.unwraps = True
            headers = without(headers, b"transfer-encoding")
        if self._connection.context.closing or isinstance(answer.body, UntilClose):
            self._keeps_alive = False
        return _format(answer, headers if self._keeps_alive else [*headers, _CLOSE])

    def _keep_begun(self, view: memoryview) -> None:
        self._begun = self._account.hold(len(view))
        self._begun.view[: len(view)] = view
        self._size = len(view)

    def _forget_begun(self) -> None:
        if self._begun is not None:
            self._begun.release()
            self._begun = None
            self._size = 0


class _Body(LayerStream):
    """A stream that ends where the message in it does."""

    __slots__ = ("_body",)
    is_strict = True  # what is read beyond the sink's room would only have to be kept

    def __init__(self, base: ByteStream, body: Body) -> None:
        super().__init__(base)
        self._body = body

    def wait_readable(self) -> Awaitable[None]:
        return NOW if self._body.is_over else self.base.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        if self._body.is_over:
            return 0
        count = self.base.read_into(buffer)
        if count:
            # Nothing of these bytes may be for the reader: it goes on, as if none had come.
            return self._body.take(buffer[:count]) or None
        if count == 0:
            self._body.end()
        return count


class _ClientBody(_Body):
    """What is behind the message stays in the kernel: it is the client's next request."""

    __slots__ = ("_client",)

    def __init__(self, client: PeekStream, body: Body) -> None:
        super().__init__(client, body)
        self._client = client

    def read_into(self, buffer: memoryview) -> int | None:
        if self._body.is_over:
            return 0
        count = self._client.peek_into(buffer)
        if count:
            count = self._body.take(buffer[:count])
            self._client.discard(count)
        elif count == 0:
            self._body.end()
        return count


async def _speaks(origin: ByteStream, deadline: float | None) -> None:
    """Wait for more of an answer; raises DestinationError when a head that began is too late."""
    try:
        async with asyncio.timeout_at(deadline):
            await origin.wait_readable()
    except TimeoutError:
        raise DestinationError(Reason.TIMED_OUT) from None


async def _pass_on(sink: ByteStream, account: Account, lease: Lease, start: int, end: int) -> None:
    """Write a part of the block; it and what is unsent before it may wait in a hold lease.

    Owns ``lease``. Raises StreamResetError, BudgetError.
    """
    try:
        if sink.unsent is None and start < end:
            start += sink.write(lease.view, start, end)
        if start < end or sink.unsent is not None:
            lease, start, end = keep(lease, sink, account, start, end)
            await finish(lease.view, sink, start, end)
    except BaseException:
        sink.unsent = None  # the block goes back: nobody may look at it again
        raise
    finally:
        lease.release()


def _uncounted(count: int) -> None:
    """What the pump tells where nobody counts."""


def _for_origin(request: HttpRequest, target: Target) -> bytes:
    """The head as the origin shall see it; Host follows the target (RFC 9112 §3.2.2)."""
    headers = without(end_to_end(request.headers), b"host")
    connection = upgrade_of(request.headers) or [_CLOSE]
    return format_head(
        b"%b %b HTTP/1.1" % (request.method, target.origin_form),
        [(b"Host", target.authority), *headers, *connection],
    )


def _informational(answer: HttpResponse) -> bytes:
    switch = upgrade_of(answer.headers) if answer.status == SWITCHING_PROTOCOLS else []
    return _format(answer, [*end_to_end(answer.headers), *switch])


def _format(answer: HttpResponse, headers: Headers) -> bytes:
    return format_head(b"HTTP/1.1 %d %b" % (answer.status, answer.reason), headers)


def _bad_answer(what: str) -> ProtocolError:
    return ProtocolError(f"the destination's answer is not proper HTTP: {what}", stage=ANSWER)
