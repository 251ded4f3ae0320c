"""Both ends of a TCP connection in memory: bytes, an orderly end, a reset, a path that froze."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from circumvent.api.streams import ReplayableStream, Vitals
from circumvent.errors import StreamResetError

ROOM = 64 * 1024  # bytes on their way that neither end has in its hands


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


@dataclass(eq=False, slots=True)
class Pipe:
    """One direction. Since ``frozen_at``, unless 0, somebody on the path drops every packet."""

    data: bytearray = field(default_factory=bytearray)
    size: int = ROOM
    lost: int = 0  # bytes that were sent into a frozen path, and wait for an answer for ever
    frozen_at: float = 0.0
    is_ended: bool = False
    is_reset: bool = False
    is_deaf: bool = False  # the reader closed
    reader: asyncio.Future[None] | None = None
    writer: asyncio.Future[None] | None = None

    @property
    def is_frozen(self) -> bool:
        return self.frozen_at > 0.0

    @property
    def room(self) -> int:
        """Bytes that can be sent."""
        return self.size - len(self.data) - self.lost

    def put(self, data: memoryview) -> int:
        """Bytes taken."""
        count = min(self.room, len(data))
        if self.is_frozen:
            self.lost += count
        elif not self.is_deaf:
            self.data += data[:count]
            _wake(self.reader)
        return count

    def end(self) -> None:
        """Nothing follows."""
        self.is_ended |= not self.is_frozen
        _wake(self.reader)

    def reset(self) -> None:
        """What has arrived can still be read, as on Linux."""
        self.is_reset |= not self.is_frozen
        _wake(self.reader)
        _wake(self.writer)


class MemoryStream(ReplayableStream):
    """One end; ``pair`` makes both."""

    def __init__(self, incoming: Pipe, outgoing: Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._expected = 1
        self._is_closed = False
        self._asked_at = 0.0
        self.asked: list[bool] = []  # for a sign, or for none any more
        self.queueing = 0.0  # seconds that packets wait on the way, as its kernel sees it

    async def wait_readable(self) -> None:
        pipe = self._incoming
        while not (self._has_ended() or self._enough()):
            pipe.reader = asyncio.get_running_loop().create_future()
            await pipe.reader

    def _has_ended(self) -> bool:
        return self._is_closed or self._incoming.is_reset or self._incoming.is_ended

    def _enough(self) -> bool:
        return len(self._incoming.data) >= min(self._expected, self._incoming.size)

    def read_into(self, buffer: memoryview) -> int | None:
        count = self.peek_into(buffer)
        if count:
            self.discard(count)
        return count

    def peek_into(self, buffer: memoryview) -> int | None:
        pipe = self._incoming
        if self._is_closed or (pipe.is_reset and not pipe.data):
            code = errno.EBADF if self._is_closed else errno.ECONNRESET
            raise StreamResetError("connection lost", stage="read", errno=code)
        if not pipe.data:
            return 0 if pipe.is_ended else None
        count = min(len(buffer), len(pipe.data))
        buffer[:count] = pipe.data[:count]
        return count

    def discard(self, count: int) -> None:
        del self._incoming.data[:count]
        _wake(self._incoming.writer)

    def expect(self, count: int) -> None:
        self._expected = count
        _wake(self._incoming.reader)

    @property
    def ended(self) -> bool:
        return self._incoming.is_ended

    def room(self) -> int:
        return ROOM if self._is_broken() else self._outgoing.room  # the write will say so

    def _is_broken(self) -> bool:
        return self._is_closed or self._outgoing.is_deaf or self._incoming.is_reset

    async def wait_writable(self) -> None:
        pipe = self._outgoing
        while not (self._is_broken() or pipe.room):
            pipe.writer = asyncio.get_running_loop().create_future()
            await pipe.writer

    def write(self, block: memoryview, start: int, end: int) -> int:
        pipe = self._outgoing
        if self._is_broken():
            raise StreamResetError("connection lost", stage="write", errno=errno.EPIPE)
        return pipe.put(block[start:end])

    @property
    def unsent(self) -> memoryview | None:
        return None

    @unsent.setter
    def unsent(self, view: memoryview | None) -> None:
        assert view is None, "nothing is ever kept"

    def flush(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._outgoing.end()

    async def aclose(self) -> None:
        if not self._is_closed:
            self._outgoing.end()
            self._close()

    def abort(self) -> None:
        if not self._is_closed:
            self._outgoing.reset()
            self._close()

    def _close(self) -> None:
        self._is_closed = True
        self._incoming.is_deaf = True
        self._incoming.data.clear()
        for waiter in (self._incoming.reader, self._incoming.writer, self._outgoing.writer):
            _wake(waiter)

    def freeze(self) -> None:
        """Somebody on the path drops every packet of this connection, both ways."""
        self._incoming.frozen_at = self._outgoing.frozen_at = asyncio.get_running_loop().time()

    def vitals(self) -> Vitals:
        """A kernel asks every second, and one that lives answers at once."""
        silence, unanswered = 0.0, 0
        if self._outgoing.is_frozen:
            now = asyncio.get_running_loop().time()
            frozen_at = self._outgoing.frozen_at
            silence = now - frozen_at
            unanswered = int(now - max(self._asked_at, frozen_at)) if self._asked_at else 0
        return Vitals(silence, unanswered, rtt=0.0, queueing=self.queueing)

    def ask_for_sign(self, *, wanted: bool) -> None:
        self._asked_at = asyncio.get_running_loop().time() if wanted else 0.0
        self.asked.append(wanted)


def pair(size: int = ROOM) -> tuple[MemoryStream, MemoryStream]:
    """A connection's two ends; up to ``size`` bytes each way are on their way."""
    one, other = Pipe(size=size), Pipe(size=size)
    return MemoryStream(one, other), MemoryStream(other, one)


class End:
    """One end for a test's script; what breaks raises ConnectionResetError."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream

    async def send(self, data: bytes) -> None:
        """All of ``data``, as fast as the other end takes it."""
        block = bytearray(data)
        sent = 0
        while sent < len(block):
            await self.stream.wait_writable()
            with _resets():
                sent += self.stream.write(memoryview(block), sent, len(block))

    def offer(self, data: bytes) -> int:
        """As much of ``data`` as goes without waiting; how much that is."""
        with _resets():
            return self.stream.write(memoryview(bytearray(data)), 0, len(data))

    async def receive(self, at_least: int = 1) -> bytes:
        """What is there, once that is enough; less at the end, and empty behind it."""
        data = b""
        while len(data) < at_least and (piece := await self._read()):
            data += piece
        return data

    async def receive_exactly(self, size: int) -> bytes:
        """No more than ``size`` bytes, and less only at the end."""
        data = b""
        while len(data) < size and (piece := await self._read(size - len(data))):
            data += piece
        return data

    async def receive_all(self) -> bytes:
        """Everything up to the end."""
        return b"".join([piece async for piece in self._pieces()])

    async def _pieces(self) -> AsyncIterator[bytes]:
        while piece := await self._read():
            yield piece

    async def _read(self, size: int = ROOM) -> bytes:
        block = bytearray(size)
        while True:
            await self.stream.wait_readable()
            with _resets():
                count = self.stream.read_into(memoryview(block))
            if count is not None:
                return bytes(block[:count])

    def end(self) -> None:
        """Nothing follows; the other direction goes on."""
        self.stream.write_eof()

    def reset(self) -> None:
        """As a killed process with unread data."""
        self.stream.abort()


@contextmanager
def _resets() -> Iterator[None]:
    try:
        yield
    except StreamResetError as error:
        raise ConnectionResetError(error.errno, str(error)) from error
