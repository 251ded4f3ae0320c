"""Vision: the first blocks are padded; then inner TLS 1.3 goes past the outer one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable

from circumvent.api.layer import LayerStream
from circumvent.api.streams import ByteStream
from circumvent.errors import StreamResetError
from circumvent.layers.backlog import Backlog
from circumvent.layers.tls.tls13_stream import Tls13Stream
from circumvent.net.readiness import NOW
from circumvent.net.sockets import send_close
from circumvent.wire.vision import IDLE, Phase, Vision
from circumvent.wire.vision_records import InnerRecords

_MOST = 32 * 1024  # bytes of data in one padded write: a whole record fits
# What padding adds to those at most: to each 8 KiB, two headers with 1.4 KiB of zeros.
_GROWTH = 12 * 1024


class VisionStream(LayerStream):
    """One stream inside of ``tls``, which it owns.

    ``behind`` is what goes between the padding and ``tls``: a protocol's header and response,
    which are over before the padding is. ``user`` is the id as it was sent. ``_out`` and ``_in``
    are what is written to and read from once the padding of that direction is over: ``tls``, or
    its base.
    """

    __slots__ = (
        "_backlog",
        "_behind",
        "_idle",
        "_in",
        "_is_ending",
        "_is_fresh",
        "_leftover",
        "_out",
        "_records",
        "_tls",
        "_vision",
    )

    def __init__(self, tls: Tls13Stream, behind: ByteStream, user: bytes) -> None:
        super().__init__(tls)
        self._tls = tls
        self._behind = behind
        self._backlog = Backlog(behind)
        self.headroom = behind.headroom + _GROWTH
        self._vision = Vision(user)
        self._records = InnerRecords()
        self._out: ByteStream | None = None
        self._in: ByteStream | None = None
        self._leftover = b""  # was read, and never sealed
        self._is_fresh = False  # whether what goes raw was not looked for yet
        self._is_ending = False  # whether our end waits for what the backlog has
        tls.open_one_by_one(wanted=True)
        loop = asyncio.get_running_loop()
        self._idle: asyncio.TimerHandle | None = loop.call_later(IDLE, self._fill)

    # --- in -------------------------------------------------------------------------------------

    def wait_readable(self) -> Awaitable[None]:
        if self._leftover or self._is_fresh:
            return NOW
        return (self._in or self._tls).wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        if self._in is None:
            return self._read_padded(buffer)
        if self._leftover:
            count = min(len(buffer), len(self._leftover))
            buffer[:count] = self._leftover[:count]
            self._leftover = self._leftover[count:]
            return count
        self._is_fresh = False
        return self._in.read_into(buffer)

    def _read_padded(self, buffer: memoryview) -> int | None:
        count = self._behind.read_into(buffer)
        if not count:
            return count
        size = self._vision.unpad(buffer[:count])
        if self._vision.receiving is Phase.RAW:
            self._leftover = self._tls.stop_opening()
            self._is_fresh = True
            self._read_from(self._tls.base)
        elif self._vision.receiving is Phase.PLAIN:
            self._tls.open_one_by_one(wanted=False)
            self._read_from(self._tls)
        return size or None

    def _read_from(self, stream: ByteStream) -> None:
        self._in = stream
        self.record, self.overhead = stream.record, stream.overhead

    @property
    def raw_source(self) -> ByteStream | None:
        if self._in is None or self._leftover or self._is_fresh:
            return None
        return self._in.raw_source

    # --- out ------------------------------------------------------------------------------------

    @property
    def raw_sink(self) -> ByteStream | None:
        return None if self._out is None else self._out.raw_sink

    def room(self) -> int:
        return self._backlog.room() if self._out is None else self._out.room()

    def write(self, block: memoryview, start: int, end: int) -> int:
        if self._out is None and self._vision.sending is not Phase.PADDED:
            self.flush()
        if self._out is not None:
            return self._out.write(block, start, end)
        if start == end:
            self._fill()
            return 0
        size = min(end - start, self.room(), _MOST)
        if self._vision.sending is not Phase.PADDED or not size:
            return 0
        size = self._records.take(block[start : start + size])
        self._pad(block, start, start + size)
        return size

    def _pad(self, block: memoryview, start: int, end: int) -> None:
        self._forget_idle()
        wire = self._vision.pad(block[start:end])
        first = end - len(wire)
        block[first:end] = wire
        self._backlog.pass_on(block, first, end)
        if self._vision.sending is Phase.RAW:
            self._tls.stop_sealing()

    def flush(self) -> bool:
        if self._out is not None:
            return self._out.flush()
        if not self._backlog.flush():
            return False
        if self._vision.sending is not Phase.PADDED:
            self._out = self._tls.base if self._vision.sending is Phase.RAW else self._tls
            self.headroom = self._out.headroom
        if self._is_ending:
            self._is_ending = False
            (self._out or self._tls).write_eof()
            return self._tls.flush()
        return True

    def _fill(self) -> None:
        """The server is to speak first: without padding its request would stand alone."""
        if self._idle is None:
            return
        self._forget_idle()
        self._backlog.add(self._vision.fill())
        with contextlib.suppress(StreamResetError):  # the next write will raise it
            self.flush()

    def _forget_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    # --- the end --------------------------------------------------------------------------------

    def write_eof(self) -> None:
        self._forget_idle()
        if self._out is not None:
            self._out.write_eof()
            return
        self._is_ending = True
        with contextlib.suppress(StreamResetError):  # the peer may be gone already
            self.flush()

    async def aclose(self) -> None:
        self._forget_idle()
        await send_close(self, self.flush)
        await (self._out or self._tls).aclose()

    def abort(self) -> None:
        self._forget_idle()
        super().abort()
