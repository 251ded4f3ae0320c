"""What time it is. Whoever waits does so through the event loop, which counts the same seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Two readings, both in seconds.

    ``now`` never goes back, and is what the event loop's timers go by. ``wall`` is unix time: it
    can be set, and goes on while the machine sleeps. Tests hand in a loop's virtual time.
    """

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


SYSTEM_CLOCK = Clock()
