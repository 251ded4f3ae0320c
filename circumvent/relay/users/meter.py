"""Counts what a user transfers, and holds the user to a rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from circumvent.api.layer import LayerStream
from circumvent.api.streams import ByteStream


class Bucket:
    """A token bucket of ``rate`` bytes per second; a rate of 0 means no limit.

    One step may overdraw it; the next one waits until it is full enough again.
    """

    __slots__ = ("_at", "_left", "_now", "rate")

    def __init__(self, rate: int = 0, now: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._left = float(rate)
        self._now = now
        self._at = now()

    def take(self, count: int) -> None:
        """Count bytes that were transferred."""
        self._left -= count

    @property
    def delay(self) -> float:
        """Seconds until bytes may be transferred; 0 means now."""
        if not self.rate:
            return 0.0
        now = self._now()
        self._left = min(self._left + (now - self._at) * self.rate, float(self.rate))
        self._at = now
        return max(-self._left / self.rate, 0.0)


class Meter:
    """One user's counters since the relay started, and the user's rate.

    ``streams`` counts the streams that are open or being opened.
    """

    __slots__ = ("bytes_down", "bytes_up", "down", "streams", "up")

    def __init__(self) -> None:
        self.up, self.down = Bucket(), Bucket()
        self.bytes_up = self.bytes_down = 0
        self.streams = 0

    def set_rate(self, rate: int) -> None:
        """Limit both directions to ``rate`` bytes per second from now on; 0 means no limit."""
        self.up.rate = self.down.rate = rate


class MeteredStream(LayerStream):
    """A user's stream to a destination; the user writes to it, so a write counts as up."""

    __slots__ = ("_is_counted", "_meter")

    def __init__(self, base: ByteStream, meter: Meter) -> None:
        super().__init__(base)
        self._meter = meter
        self._is_counted = True
        meter.streams += 1

    def wait_readable(self) -> Awaitable[None]:
        delay = self._meter.down.delay
        return _wait_after(delay, self.base.wait_readable) if delay else self.base.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        if self._meter.down.delay:
            return None
        count = self.base.read_into(buffer)
        if count:
            self._meter.down.take(count)
            self._meter.bytes_down += count
        return count

    def room(self) -> int:
        return 0 if self._meter.up.delay else self.base.room()

    def wait_writable(self) -> Awaitable[None]:
        delay = self._meter.up.delay
        return _wait_after(delay, self.base.wait_writable) if delay else self.base.wait_writable()

    def write(self, block: memoryview, start: int, end: int) -> int:
        count = self.base.write(block, start, end)
        self._meter.up.take(count)
        self._meter.bytes_up += count
        return count

    async def aclose(self) -> None:
        self._uncount()
        await self.base.aclose()

    def abort(self) -> None:
        self._uncount()
        self.base.abort()

    def _uncount(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._meter.streams -= 1


async def _wait_after(seconds: float, wait: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(seconds)
    await wait()
