"""The two requests that an HTTP carrier is made of: an upload (POST) and a download (GET)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from circumvent.api.streams import ByteStream
from circumvent.net.readiness import NOW

SHORT_LIMIT = 256 * 1024  # bytes after which a short download ends


@dataclass(frozen=True, slots=True)
class HttpTimings:
    """In seconds. ``silence``: how long a carrier may have no request; a client always has one.

    ``upload``: for a body, and those before it in the carrier. ``short_pause``: without another
    byte, after which a short download ends. ``short_hold``: how long a short download may stay
    empty; fronts wait a minute.
    """

    silence: float = 30.0
    upload: float = 60.0
    short_pause: float = 0.02
    short_hold: float = 20.0


class UploadRequest:
    """The body of a POST: ``length`` bytes of the carrier, from ``offset`` on.

    ``early`` are the bytes that came together with the head. ``done`` is set by ``finish``.
    """

    __slots__ = ("_early", "_left", "_stream", "done", "end", "offset")

    def __init__(self, stream: ByteStream, early: bytes, length: int, offset: int) -> None:
        self._stream = stream
        self._early = early[:length]
        self._left = length
        self.offset = offset  # in the carrier, of the next byte that is read
        self.end = offset + length
        self.done = asyncio.get_running_loop().create_future()

    def wait_readable(self) -> Awaitable[None]:
        """Return when ``read_into`` is worth a try."""
        return NOW if self._early or not self._left else self._stream.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        """As ByteStream; 0 when the body is complete or the connection ended before that.

        Raises StreamResetError, ProtocolError.
        """
        if not self._left:
            return 0
        count = self._read_some(buffer)
        if count:
            count = min(count, self._left)
            self._left -= count
            self.offset += count
        return count

    def _read_some(self, buffer: memoryview) -> int | None:
        if not self._early:
            return self._stream.read_into(buffer)
        size = min(len(self._early), len(buffer))
        buffer[:size] = self._early[:size]
        self._early = self._early[size:]
        return size

    @property
    def is_complete(self) -> bool:
        """Whether nothing of the body is left in the connection."""
        return self._left <= len(self._early)

    def skip(self, count: int) -> None:
        """Count bytes of the body that were read from the connection and dropped."""
        self._left -= min(count, self._left)

    def finish(self, *, taken: bool) -> None:
        """End the wait for this body: the client gets an answer if it was ``taken``."""
        if not self.done.done():
            self.done.set_result(taken)


class DownloadRequest:
    """The answer to a GET, while it is being written.

    A ``short`` one ends by itself, soon after its first bytes. ``done`` is set by ``finish``.
    """

    __slots__ = ("_loop", "_pause", "_sent", "_timer", "done", "is_over", "short", "stream")

    def __init__(self, stream: ByteStream, timings: HttpTimings, *, short: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._pause = timings.short_pause
        self.stream = stream
        self.short = short
        self.is_over = False  # nothing more is written
        self.done = self._loop.create_future()
        self._sent = 0
        self._timer: asyncio.TimerHandle | None = None
        if short:
            self._timer = self._loop.call_later(timings.short_hold, self.end)

    def add_sent(self, count: int) -> None:
        """Count bytes that were written, and decide when a short download ends."""
        self._sent += count
        if not self.short or self.is_over:
            return
        if self._timer is not None:
            self._timer.cancel()
        if self._sent >= SHORT_LIMIT:
            self.end()
        else:
            self._timer = self._loop.call_later(self._pause, self.end)

    def end(self) -> None:
        """Write nothing more, and finish once nothing is unsent."""
        self.is_over = True
        if self.stream.unsent is None:
            self.finish()

    def finish(self) -> None:
        """End the answer now."""
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        if not self.done.done():
            self.done.set_result(None)
