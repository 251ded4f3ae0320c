"""Many streams that are read and some that never are, through one client."""

import socket
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tests.bench.load import Load, Task, Through

STALLED_ASK = 64 << 20  # bytes; far more than all buffers on the way can hold
FILL = 1.0  # seconds in which what is not read fills every buffer on its way


@dataclass(frozen=True, slots=True)
class Reading:
    """How long each reading stream took, in seconds."""

    durations: Sequence[float]

    @property
    def typical(self) -> float:
        """The median."""
        return statistics.median(self.durations)

    @property
    def slowest(self) -> float:
        """The one that took longest."""
        return max(self.durations)

    def __str__(self) -> str:
        return (
            f"{len(self.durations)} streams read, typically in {self.typical:.2f} s,"
            f" the slowest in {self.slowest:.2f} s"
        )


def read(through: Through, readers: int, total: int) -> Reading:
    """Let all read at the same time, ``total`` bytes together; raises LoadError if one is lost."""
    load = Load(through)
    durations: list[float] = []
    load.run((timed(load.fetch(total // readers), durations) for _ in range(readers)), readers)
    return Reading(durations)


def read_beside_stallers(through: Through, readers: int, stallers: int, total: int) -> Reading:
    """The same while others have asked for much and never read."""
    load = Load(through)
    stalled: list[socket.socket] = []
    with ExitStack() as stack:
        load.run((load.stall(STALLED_ASK, stalled) for _ in range(stallers)), stallers)
        for sock in stalled:
            stack.enter_context(sock)
        time.sleep(FILL)
        return read(through, readers, total)


def timed(task: Task, durations: list[float]) -> Task:
    """Note how long a task took."""
    start = time.monotonic()
    yield from task
    durations.append(time.monotonic() - start)
