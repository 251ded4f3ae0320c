"""One request of an HTTP carrier at the relay: a body that comes, or an answer that goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from circumvent.api.streams import ByteStream
from circumvent.net.readiness import NOW

SHORT_LIMIT = 256 * 1024  # bytes after which an answer that must end soon ends
SHORT_PAUSE = 0.02  # seconds without another byte after which it ends as well
SHORT_HOLD = 20.0  # seconds for which it may have nothing to say; fronts wait a minute


class UploadRequest:
    """A body of ``length`` bytes that stands at ``offset``; ``early`` came with its head."""

    __slots__ = ("_early", "_left", "_stream", "done", "end", "offset")

    def __init__(self, stream: ByteStream, early: bytes, length: int, offset: int) -> None:
        self._stream = stream
        self._early = early[:length]
        self._left = length
        self.offset = offset  # of the next byte that it will bring
        self.end = offset + length
        self.done = asyncio.get_running_loop().create_future()

    def wait_readable(self) -> Awaitable[None]:
        """Return when ``read_into`` is worth a try."""
        return NOW if self._early or not self._left else self._stream.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        """As a stream; 0 where it was cut, or is complete. Raises as the stream does."""
        if not self._left:
            return 0
        count = self._take(buffer)
        if count:
            count = min(count, self._left)
            self._left -= count
            self.offset += count
        return count

    def _take(self, buffer: memoryview) -> int | None:
        if not self._early:
            return self._stream.read_into(buffer)
        size = min(len(self._early), len(buffer))
        buffer[:size] = self._early[:size]
        self._early = self._early[size:]
        return size

    @property
    def is_complete(self) -> bool:
        """Whether all of it was read."""
        return self._left <= len(self._early)

    def skip(self, count: int) -> None:
        """So many bytes were read elsewhere."""
        self._left -= min(count, self._left)

    def finish(self, *, taken: bool) -> None:
        """Let its request be answered, or cut."""
        if not self.done.done():
            self.done.set_result(taken)


class DownloadRequest:
    """An answer under way; ``short`` ones end by themselves, when nothing is unsent."""

    __slots__ = ("_loop", "_sent", "_timer", "done", "is_over", "short", "stream")

    def __init__(self, stream: ByteStream, *, short: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self.stream = stream
        self.short = short
        self.is_over = False
        self.done = self._loop.create_future()
        self._sent = 0
        self._timer: asyncio.TimerHandle | None = None
        if short:
            self._timer = self._loop.call_later(SHORT_HOLD, self.end)

    def add_sent(self, count: int) -> None:
        """So many bytes more were written."""
        self._sent += count
        if not self.short or self.is_over:
            return
        if self._timer is not None:
            self._timer.cancel()
        if self._sent >= SHORT_LIMIT:
            self.end()
        else:
            self._timer = self._loop.call_later(SHORT_PAUSE, self.end)

    def end(self) -> None:
        """Nothing more is written; it is done once nothing is unsent."""
        self.is_over = True
        if self.stream.unsent is None:
            self.finish()

    def finish(self) -> None:
        """Let its request come to an end."""
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        if not self.done.done():
            self.done.set_result(None)
