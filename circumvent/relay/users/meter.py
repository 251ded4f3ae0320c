"""What a user may use and has used: bytes, streams, and how fast."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from circumvent.api.layer import LayerStream
from circumvent.api.streams import ByteStream


class Bucket:
    """So many bytes a second on average; 0 for no limit.

    It goes into debt by one step, and whoever comes next waits until that is paid.
    """

    __slots__ = ("_at", "_left", "_now", "rate")

    def __init__(self, rate: int = 0, now: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._left = float(rate)
        self._now = now
        self._at = now()

    def take(self, count: int) -> None:
        """Bytes moved."""
        self._left -= count

    @property
    def delay(self) -> float:
        """Seconds until bytes may move; 0 for now."""
        if not self.rate:
            return 0.0
        now = self._now()
        self._left = min(self._left + (now - self._at) * self.rate, float(self.rate))
        self._at = now
        return max(-self._left / self.rate, 0.0)


class Meter:
    """One user's: bytes each way since the relay started, streams, and the pace.

    ``streams`` are those that are open or about to be.
    """

    __slots__ = ("bytes_down", "bytes_up", "down", "streams", "up")

    def __init__(self) -> None:
        self.up, self.down = Bucket(), Bucket()
        self.bytes_up = self.bytes_down = 0
        self.streams = 0

    def set_rate(self, rate: int) -> None:
        """From now on."""
        self.up.rate = self.down.rate = rate


class MeteredStream(LayerStream):
    """A user's stream to a destination: written to by the user, so a write is upwards."""

    __slots__ = ("_is_counted", "_meter")

    def __init__(self, base: ByteStream, meter: Meter) -> None:
        super().__init__(base)
        self._meter = meter
        self._is_counted = True
        meter.streams += 1

    def wait_readable(self) -> Awaitable[None]:
        delay = self._meter.down.delay
        return _later(delay, self.base.wait_readable) if delay else self.base.wait_readable()

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
        return _later(delay, self.base.wait_writable) if delay else self.base.wait_writable()

    def write(self, block: memoryview, start: int, end: int) -> int:
        count = self.base.write(block, start, end)
        self._meter.up.take(count)
        self._meter.bytes_up += count
        return count

    async def aclose(self) -> None:
        self._leave()
        await self.base.aclose()

    def abort(self) -> None:
        self._leave()
        self.base.abort()

    def _leave(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._meter.streams -= 1


async def _later(seconds: float, wait: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(seconds)
    await wait()
