"""A stream made of HTTP requests: one long answer, and uploads one after the other.

See ``circumvent.wire.http_carrier``. What is written waits here until the relay has confirmed it,
so a request that failed is sent again; the stream ends when the front loses a part of an answer. An
end is taken as the front shows it: the TLS inside detects what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from circumvent.api import ByteStream, StreamResetError
from circumvent.tasks import wake
from circumvent.wire.http_carrier import MAX_UPLOAD, UPLOADS_AT_ONCE, Flags
from circumvent_plugins.fronted_carrier.requests import FrontError, Requests

WINDOW = (UPLOADS_AT_ONCE + 1) * MAX_UPLOAD  # bytes that are written and not confirmed
MAX_FAILURES = 3  # in a row; the session has other carriers

Connect = Callable[[], AbstractAsyncContextManager[Requests]]


@dataclass(frozen=True, slots=True)
class FrontTimings:
    """In seconds. ``answer``: without the first bytes, from the dial on; then the front holds back.

    ``retry``: after the first failure, and twice that after the next. ``close``: for what was
    written to be taken.
    """

    answer: float = 4.0
    retry: float = 0.2
    close: float = 5.0


class FrontedStream(ByteStream):
    """Owns one task, in which all its requests run.

    ``is_short``: answers are short, because the front holds back those that go on.
    """

    def __init__(
        self, connect: Connect, *, is_short: bool, timings: FrontTimings | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self._timings = timings or FrontTimings()
        self.is_short = is_short
        self._waiting = bytearray()  # written, in no request yet
        self._asked = 0  # bytes of the stream that are or were in requests
        self._under_way = 0
        self._is_ended = self._is_last_said = False
        self._has_work = asyncio.Event()
        self._is_known = asyncio.Event()  # the relay has the first upload: others may follow
        self._piece = memoryview(b"")  # received, not read yet
        self._received = 0
        self._is_over = False
        self._was_read = asyncio.Event()
        self._deadline: asyncio.Timeout | None = None
        self._opened: asyncio.Future[None] = loop.create_future()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._error: StreamResetError | None = None
        self._uploading: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._run(connect))

    async def opened(self) -> None:
        """Return when bytes can go both ways; raises StreamResetError."""
        await asyncio.wait([self._opened, self._task], return_when=asyncio.FIRST_COMPLETED)
        self._check()

    async def closed(self) -> None:
        """Return when its requests are over."""
        await asyncio.wait([self._task])

    # --- requests -------------------------------------------------------------------------------

    async def _run(self, connect: Connect) -> None:
        error: Exception = StreamResetError("the carrier was closed", stage="carrier")
        try:
            async with connect() as requests, asyncio.TaskGroup() as group:
                uploads = [
                    group.create_task(self._upload(requests)) for _ in range(UPLOADS_AT_ONCE)
                ]
                group.create_task(self._download(requests))
                await asyncio.wait(uploads)
                wake(self._uploading)
        except Exception as broken:  # noqa: BLE001 - whatever a library raises breaks the stream
            error = _first(broken)
        finally:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, StreamResetError):
            error = StreamResetError(f"the front: {error}", stage="carrier")
        self._error = self._error or error
        for waiter in (self._reader, self._writer, self._uploading):
            wake(waiter)

    async def _upload(self, requests: Requests) -> None:
        """Send what waits, until the last byte was taken."""
        while not self._is_last_said:
            await self._has_work.wait()
            if self._asked:
                await self._is_known.wait()
            if self._has_work.is_set() and not self._is_last_said:
                body, offset, flags = self._next_body()
                await self._retried(partial(requests.upload, body, offset, flags))
                self._is_known.set()
                self._under_way -= len(body)
                wake(self._writer)

    def _next_body(self) -> tuple[bytes, int, Flags]:
        body = bytes(self._waiting[:MAX_UPLOAD])
        offset = self._asked
        del self._waiting[: len(body)]
        self._asked += len(body)
        self._under_way += len(body)
        if not self._waiting:
            self._is_last_said = self._is_ended
            if not self._is_ended:
                self._has_work.clear()
        return body, offset, Flags.LAST if self._is_last_said else Flags.NONE

    async def _download(self, requests: Requests) -> None:
        if not self.is_short:
            try:
                async with asyncio.timeout(self._timings.answer) as self._deadline:
                    await self._receive_all(requests)
                    return
            except TimeoutError:
                self.is_short = True
                requests.start_over()  # the relay may still write to the answer that is held back
        self._deadline = None
        wake(self._opened)  # such an answer comes only when the relay has something to say
        await self._receive_all(requests)

    async def _receive_all(self, requests: Requests) -> None:
        while not self._is_over:
            await self._retried(lambda: self._receive(requests))
        wake(self._reader)

    async def _receive(self, requests: Requests) -> None:
        """One answer, to its end; raises FrontError only when it brought nothing."""
        flags = Flags.SHORT if self.is_short else Flags.NONE
        has_begun, before = False, self._received
        try:
            async with requests.download(self._received, flags) as pieces:
                async for piece in pieces:
                    has_begun = True
                    self._note_first_bytes()
                    if piece:
                        await self._deliver(piece)
                self._is_over = not has_begun
        except FrontError:
            if self._received == before:
                raise

    def _note_first_bytes(self) -> None:
        if self._deadline is not None:
            self._deadline.reschedule(None)
            self._deadline = None
        wake(self._opened)

    async def _deliver(self, piece: bytes) -> None:
        """Hand over ``piece``; return when it was read."""
        self._received += len(piece)
        self._piece = memoryview(piece)
        self._was_read.clear()
        wake(self._reader)
        await self._was_read.wait()

    # --- the stream -----------------------------------------------------------------------------

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def wait_readable(self) -> Awaitable[None]:
        self._reader = asyncio.get_running_loop().create_future()
        if self._piece or self._is_over or self._error is not None:
            wake(self._reader)
        return self._reader

    def read_into(self, buffer: memoryview) -> int | None:
        size = min(len(self._piece), len(buffer))
        if size:
            buffer[:size], self._piece = self._piece[:size], self._piece[size:]
            if not self._piece:
                self._was_read.set()
            return size
        if self._is_over:
            return 0
        self._check()
        return None

    def room(self) -> int:
        return 1 if self._error is not None else WINDOW - len(self._waiting) - self._under_way

    def wait_writable(self) -> Awaitable[None]:
        self._writer = asyncio.get_running_loop().create_future()
        if self.room() > 0:
            wake(self._writer)
        return self._writer

    def write(self, block: memoryview, start: int, end: int) -> int:
        self._check()
        count = min(end - start, self.room())
        if count > 0:
            self._waiting += block[start : start + count]
            self._has_work.set()
        return count

    @property
    def unsent(self) -> memoryview | None:
        return None

    @unsent.setter
    def unsent(self, view: memoryview | None) -> None:
        """Nothing stays in a block: taken bytes are copied."""

    def flush(self) -> bool:
        self._check()
        return True

    def write_eof(self) -> None:
        self._is_ended = True
        self._has_work.set()

    async def aclose(self) -> None:
        self.write_eof()
        if self._error is None:
            await asyncio.wait([self._uploading], timeout=self._timings.close)
        self.abort()

    def abort(self) -> None:
        self._task.cancel()
        self._fail(StreamResetError("connection lost: it was closed", stage="carrier"))

    async def _retried(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try again what failed on the way; raises FrontError when it fails too often."""
        for failure in range(MAX_FAILURES - 1):
            try:
                await attempt()
            except FrontError:
                await asyncio.sleep(self._timings.retry * 2**failure)
            else:
                return
        await attempt()


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
