"""An asyncio transport over one of our streams, for libraries that expect one."""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from typing import Any

from circumvent.api.streams import ByteStream
from circumvent.errors import BudgetError, CircumventError
from circumvent.http.limits import MAX_UNSENT
from circumvent.layers.exchange import receive, send
from circumvent.memory import Account
from circumvent.tasks import dismiss

READ = 16 * 1024  # what one read brings, about
HIGH_WATER = 32 * 1024  # waiting bytes at which the writer is told to pause
LINGER_SECONDS = 5.0  # for a peer that does not take our last bytes


class StreamTransport(asyncio.Transport):
    """Moves bytes between ``stream``, which it owns, and ``protocol`` while ``run`` runs."""

    def __init__(self, stream: ByteStream, account: Account, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._stream = stream
        self._account = account
        self._protocol = protocol
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._has_work = asyncio.Event()
        self._waiting: deque[bytes] = deque()
        self._waiting_size = 0
        self._paused = False
        self._closing = False
        self._lingering: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve the protocol until either side closes; never raises."""
        receiving = asyncio.ensure_future(self._receive())
        sending = asyncio.ensure_future(self._send())
        try:
            await asyncio.wait([receiving, sending], return_when=asyncio.FIRST_COMPLETED)
            if receiving.done() and not receiving.exception():
                self.close()  # the peer has ended; what waits is still sent
                await asyncio.wait([sending])
        finally:
            self._closing = True
            tasks = (receiving, sending)
            await dismiss(tasks)
            errors = (None if task.cancelled() else task.exception() for task in tasks)
            await self._leave(next(filter(None, errors), None))

    async def _leave(self, error: BaseException | None) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
        if error is None and not self._waiting:
            await self._stream.aclose()
        else:
            self._stream.abort()
        self._protocol.connection_lost(None if error is None else _as_os_error(error))

    async def _receive(self) -> None:
        while True:
            await self._may_read.wait()
            data = await receive(self._stream, self._account, READ)
            if not data:
                self._protocol.eof_received()
                return
            self._protocol.data_received(data)

    async def _send(self) -> None:
        while True:
            while self._waiting:
                data = self._waiting[0]
                await send(self._stream, self._account, data)
                self._waiting.popleft()
                self._sent(len(data))
            if self._closing:
                return
            self._has_work.clear()
            await self._has_work.wait()

    def _sent(self, size: int) -> None:
        self._waiting_size -= size
        if self._paused and self._waiting_size <= HIGH_WATER // 2:
            self._paused = False
            self._protocol.resume_writing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send when there is room; raises BudgetError far beyond what may wait."""
        if self._closing or not data:
            return
        self._waiting_size += len(data)
        if self._waiting_size > MAX_UNSENT:
            self._waiting_size -= len(data)
            raise BudgetError(
                f"a write of {len(data)} bytes although {self._waiting_size} wait already",
                stage="write",
            )
        self._waiting.append(bytes(data))
        self._has_work.set()
        if self._waiting_size > HIGH_WATER and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self._waiting_size

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Send what waits, then close."""
        if not self._closing:
            self._closing = True
            self._has_work.set()
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(LINGER_SECONDS, self.abort)

    def abort(self) -> None:
        """Cut at once."""
        self._closing = True
        self._stream.abort()
        self._may_read.set()
        self._has_work.set()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002, ANN401 - as in asyncio
        return default


def _as_os_error(error: BaseException) -> OSError:
    """What libraries expect of a connection that broke."""
    code = error.errno if isinstance(error, CircumventError) else None
    return OSError(code or errno.ECONNRESET, str(error))
