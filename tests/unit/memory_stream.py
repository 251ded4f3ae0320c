"""A pipe inside this process: two streams, no socket."""

import asyncio
from collections.abc import Awaitable

from circumvent.api.streams import ByteStream
from circumvent.errors import StreamResetError
from circumvent.net.readiness import NOW

CAPACITY = 64 * 1024  # bytes that one direction takes before its reader reads


class _Direction:
    """Bytes on their way from one end to the other."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_ended = False
        self.is_broken = False
        self._waiting: list[asyncio.Future[None]] = []

    def wait(self) -> Awaitable[None]:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        return waiter

    def changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def check(self, stage: str) -> None:
        if self.is_broken:
            raise StreamResetError("the pipe is broken", stage=stage)


class MemoryStream(ByteStream):
    """One end of the pipe."""

    def __init__(self, incoming: _Direction, outgoing: _Direction) -> None:
        self._in = incoming
        self._out = outgoing

    def wait_readable(self) -> Awaitable[None]:
        source = self._in
        return NOW if source.data or source.is_ended or source.is_broken else source.wait()

    def read_into(self, buffer: memoryview) -> int | None:
        self._in.check("read")
        count = min(len(buffer), len(self._in.data))
        if not count:
            return 0 if self._in.is_ended else None
        buffer[:count] = self._in.data[:count]
        del self._in.data[:count]
        self._in.changed()
        return count

    def room(self) -> int:
        return CAPACITY if self._out.is_broken else CAPACITY - len(self._out.data)

    def wait_writable(self) -> Awaitable[None]:
        return NOW if self.room() else self._out.wait()

    def write(self, block: memoryview, start: int, end: int) -> int:
        self._out.check("write")
        count = min(end - start, self.room())
        self._out.data += block[start : start + count]
        self._out.changed()
        return count

    @property
    def unsent(self) -> memoryview | None:
        return None

    @unsent.setter
    def unsent(self, view: memoryview | None) -> None:
        assert view is None

    def flush(self) -> bool:
        self._out.check("write")
        return True

    def write_eof(self) -> None:
        self._out.is_ended = True
        self._out.changed()

    async def aclose(self) -> None:
        self.write_eof()

    def abort(self) -> None:
        for direction in (self._in, self._out):
            direction.is_broken = direction.is_broken or not direction.is_ended
            direction.changed()


def memory_pair() -> tuple[MemoryStream, MemoryStream]:
    """Both ends of one pipe."""
    there, back = _Direction(), _Direction()
    return MemoryStream(there, back), MemoryStream(back, there)
