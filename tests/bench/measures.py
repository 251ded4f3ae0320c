"""What is measured, each in one round over one running client."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.contenders import Running
from tests.bench.load import Load
from tests.bench.proc import cpu_seconds, dirty_kib

GIB = 1 << 30
MIB = 1 << 20
BULK_STREAMS = 8
SMALL_ANSWER = 512  # bytes; what a short API call or a redirect carries
AT_ONCE = 64
MOVED_EACH_WAY = 10_000_000
SETTLE = 2.0  # seconds; a garbage collector gives back what it can meanwhile


@dataclass(frozen=True, slots=True)
class Size:
    """How much one round moves."""

    bulk: int
    connections: int
    idle_streams: int


@dataclass(slots=True)
class Spent:
    """Time that passed and CPU time that a client used."""

    seconds: float = 0
    cpu: float = 0


@contextmanager
def spending(pid: int) -> Iterator[Spent]:
    """Measure what is spent inside the block."""
    spent = Spent()
    cpu, start = cpu_seconds(pid), time.monotonic()
    yield spent
    spent.seconds, spent.cpu = time.monotonic() - start, cpu_seconds(pid) - cpu


def bulk(running: Running, size: Size, way: str) -> dict[str, float]:
    """Move much over few streams, ``down`` or ``up``."""
    load = Load(running.through)
    move = load.fetch if way == "down" else load.send
    each = size.bulk // BULK_STREAMS
    with spending(running.process.pid) as spent:
        load.run([move(each) for _ in range(BULK_STREAMS)], at_once=BULK_STREAMS)
    return {
        f"{way} CPU s/GiB": spent.cpu / (size.bulk / GIB),
        f"{way} MiB/s": size.bulk / MIB / spent.seconds,
    }


def connections(running: Running, size: Size) -> dict[str, float]:
    """Open many short connections."""
    load = Load(running.through)
    with spending(running.process.pid) as spent:
        load.run((load.fetch(SMALL_ANSWER) for _ in range(size.connections)), at_once=AT_ONCE)
    return {
        "connections/s": size.connections / spent.seconds,
        "CPU ms/connection": spent.cpu * 1000 / size.connections,
    }


def idle(running: Running, size: Size) -> dict[str, float]:
    """Hold streams open that have moved bytes both ways.

    A few are used and closed before, so that what a client keeps however many there are does not
    count. Not as many as are held later: their memory would be used again and hide what is asked.
    """
    hold_used_streams(running, BULK_STREAMS)
    time.sleep(SETTLE)
    before = dirty_kib(running.process.pid)
    held = hold_used_streams(running, size.idle_streams)
    return {"KiB/idle stream": (held - before) / size.idle_streams, "MiB in all": held / 1024}


def hold_used_streams(running: Running, count: int) -> int:
    """The client's memory in KiB while it holds ``count`` used and idle streams."""
    load = Load(running.through)
    kept: list[socket.socket] = []
    tasks = (load.both_ways(MOVED_EACH_WAY, kept) for _ in range(count))
    load.run(tasks, at_once=BULK_STREAMS)
    time.sleep(SETTLE)
    held = dirty_kib(running.process.pid)
    for sock in kept:
        sock.close()
    return held
