"""A connection to a web server in this process, without a socket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any

from circumvent.api.streams import ByteStream
from circumvent.errors import StreamResetError
from circumvent.net.readiness import NOW
from circumvent.tasks import wake

HIGH_WATER = 32 * 1024  # waiting bytes above which the server is told to pause
_ROOM = 16 * 1024  # the most that the server is given at once


class CoverSitePipe(ByteStream):
    """The visitor's end; ``protocol`` is the server's, which serves it like a TCP connection.

    ``waiting_bytes`` have been sent by the server and not been read yet.
    """

    headroom = 0
    record = 1
    overhead = 0

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._server = _ServerEnd(self)
        self._waiting: deque[memoryview] = deque()
        self.waiting_bytes = 0
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._is_disconnected = False
        self.is_paused = False  # the server does not read
        self.is_reset = False
        protocol.connection_made(self._server)

    # --- called by the server's end -------------------------------------------------------------

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes that the server sends."""
        if data and not self._is_disconnected:
            was_full = self.waiting_bytes > HIGH_WATER
            self._waiting.append(memoryview(bytes(data)))
            self.waiting_bytes += len(data)
            if self.waiting_bytes > HIGH_WATER and not was_full:
                self._protocol.pause_writing()
            wake(self._reader)

    def wake(self) -> None:
        """Wake whoever waits: the server reads again, or has closed or reset its end."""
        wake(self._reader)
        wake(self._writer)
        if self._server.is_closing() and (self.is_reset or not self._waiting):
            self._loop.call_soon(self._disconnect)

    def _disconnect(self) -> None:
        if not self._is_disconnected:
            self._is_disconnected = True
            self._protocol.connection_lost(None)

    # --- the stream -----------------------------------------------------------------------------

    def wait_readable(self) -> Awaitable[None]:
        if self._waiting or self._server.is_closing():
            return NOW
        self._reader = self._loop.create_future()
        return self._reader

    def read_into(self, buffer: memoryview) -> int | None:
        if self.is_reset:
            raise StreamResetError("connection lost: the site reset it", stage="read")
        count = 0
        while self._waiting and count < len(buffer):
            piece = self._waiting.popleft()
            size = min(len(piece), len(buffer) - count)
            buffer[count : count + size] = piece[:size]
            count += size
            if size < len(piece):
                self._waiting.appendleft(piece[size:])
        if count:
            self._resume_server(count)
            return count
        return 0 if self._server.is_closing() else None

    def _resume_server(self, count: int) -> None:
        was_full = self.waiting_bytes > HIGH_WATER
        self.waiting_bytes -= count
        if was_full and self.waiting_bytes <= HIGH_WATER and not self._is_disconnected:
            self._protocol.resume_writing()
        if self._server.is_closing():
            self.wake()

    def room(self) -> int:
        return 0 if self.is_paused and not self._server.is_closing() else _ROOM

    def wait_writable(self) -> Awaitable[None]:
        if self.room():
            return NOW
        self._writer = self._loop.create_future()
        return self._writer

    def write(self, block: memoryview, start: int, end: int) -> int:
        if self._server.is_closing():
            raise StreamResetError("connection lost: the site closed it", stage="write")
        end = min(end, start + self.room())
        if end > start:
            self._protocol.data_received(bytes(block[start:end]))
        return end - start

    @property
    def unsent(self) -> memoryview | None:
        return None

    @unsent.setter
    def unsent(self, view: memoryview | None) -> None:
        """Nothing is ever unsent: ``write`` takes only what the server reads at once."""

    def flush(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._server.is_closing() and not self._protocol.eof_received():
            self._server.close()

    async def aclose(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._waiting.clear()
        self.waiting_bytes = 0
        self._server.abort()
        self._disconnect()


class _ServerEnd(asyncio.Transport):
    """The server's end: the transport of its protocol."""

    def __init__(self, pipe: CoverSitePipe) -> None:
        super().__init__()
        self._pipe = pipe
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_closing:
            self._pipe.receive(data)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """Close; what was written before still arrives."""
        if not self._is_closing:
            self._is_closing = True
            self._pipe.wake()

    def abort(self) -> None:
        if not self._is_closing:
            self._pipe.is_reset = True
            self.close()

    def pause_reading(self) -> None:
        self._pipe.is_paused = True

    def resume_reading(self) -> None:
        self._pipe.is_paused = False
        self._pipe.wake()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002, ANN401 - as in asyncio
        return default
