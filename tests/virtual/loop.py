"""An event loop in virtual time: it jumps to the next timer when there is nothing else to do.

So a test of minutes takes milliseconds, and however busy the machine is, nothing is ever late.
Only for what stays inside one loop: for a socket or a thread it does not wait.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable

from circumvent.net.clock import Clock

START = 1000.0  # seconds; not 0, which means "never" in many places
WALL_START = 1_790_000_000.0  # unix time at START
_LATE = 1e-6  # seconds; no timer fires early
LOOK_EVERY = 0.02  # seconds between two looks at a condition
LONG = 600.0  # far more than anything takes


class StuckError(Exception):
    """Nothing can run any more, and no timer is set: the test would hang."""


class _Jump(selectors.DefaultSelector):
    """Instead of waiting, moves the loop's time."""

    now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            raise StuckError
        self.now += timeout + _LATE
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See above."""

    def __init__(self) -> None:
        self._jump = _Jump()
        self._asleep = 0.0
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now

    def wall(self) -> float:
        """Unix time."""
        return WALL_START + self._asleep + self._jump.now - START

    def sleep_machine(self, seconds: float) -> None:
        """The machine sleeps: only the wall clock goes on."""
        self._asleep += seconds

    def stand_still(self, seconds: float) -> None:
        """Time passes, and nothing of ours runs meanwhile: the machine slept or was too busy."""
        self._jump.now += seconds


def running_loop() -> VirtualTimeLoop:
    """The loop that the test runs in."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop


def loop_clock() -> Clock:
    """The clock of the running loop, in virtual time or not."""
    loop = asyncio.get_running_loop()
    return Clock(loop.time, loop.wall) if isinstance(loop, VirtualTimeLoop) else Clock(loop.time)


async def until(condition: Callable[[], object], seconds: float = LONG) -> float:
    """Wait until ``condition`` holds; returns how many seconds that took. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - most conditions have no event
            await asyncio.sleep(LOOK_EVERY)
    return loop.time() - started
