"""Between two plain connections the kernel moves the bytes: all arrive, and nothing is held."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from circumvent.errors import StreamResetError
from circumvent.memory import LARGEST, SMALLEST_ARENA, Memory
from circumvent.net import splice as splicing
from circumvent.net.pump import FIRST_READ, pump
from circumvent.net.tcp import TcpStream
from circumvent.tasks import dismiss
from circumvent.testing.far_end import Codec, FarEnd, connected
from tests.unit.local_sockets import until
from tests.unit.test_pump import drain, feed

SMALL = 8 * 1024  # of the kernel: more than one step, and pipes that stay full for a while
LARGE = 4 * LARGEST


@dataclass(frozen=True, slots=True)
class Joined:
    """Two connections with a pump between them, and their far ends."""

    feeder: FarEnd
    reader: FarEnd
    memory: Memory
    pumping: asyncio.Task[None]
    counts: list[int]


@pytest.fixture(params=[SMALL, LARGE])
async def joined(request: pytest.FixtureRequest) -> AsyncIterator[Joined]:
    near, far = connected(small=request.param, receive=LARGE)
    out, reader = connected(small=request.param, receive=SMALL)
    source, sink = TcpStream(near), TcpStream(out)
    memory, counts = Memory(2 * SMALLEST_ARENA, poison=True), list[int]()
    pumping = asyncio.create_task(pump(source, sink, memory.account("up"), counts.append))
    ends = FarEnd(far, Codec()), FarEnd(reader, Codec())
    yield Joined(*ends, memory, pumping, counts)
    await dismiss((pumping,))
    for stream in (source, sink):
        stream.abort()
    for end in ends:
        end.close()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_all_arrives_and_none_of_it_takes_memory_of_ours(joined: Joined) -> None:
    data = random.Random(1).randbytes(3 * LARGEST)
    async with asyncio.TaskGroup() as group:
        group.create_task(feed(joined.feeder, data, 1))
        got = group.create_task(drain(joined.reader, len(data), 2))
    await joined.pumping
    assert got.result() == hashlib.sha256(data).digest()
    assert sum(joined.counts) == len(data)
    assert joined.memory.account("up").high_water <= 2 * FIRST_READ


async def test_without_a_pipe_the_bytes_are_copied(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splicing, "MOST_PIPES", 0)
    data = random.Random(2).randbytes(3 * LARGEST)
    async with asyncio.TaskGroup() as group:
        group.create_task(feed(joined.feeder, data, 1))
        got = group.create_task(drain(joined.reader, len(data), 2))
    await joined.pumping
    assert got.result() == hashlib.sha256(data).digest()


async def start(joined: Joined) -> asyncio.Task[None]:
    """More is sent than fits on the way, and nothing of it is read."""
    feeding = asyncio.create_task(feed(joined.feeder, bytes(8 * LARGEST), 3))
    await until(lambda: bool(joined.counts))
    return feeding


async def test_a_sink_that_breaks(joined: Joined) -> None:
    feeding = await start(joined)
    joined.reader.reset()
    with pytest.raises(StreamResetError) as caught:
        await joined.pumping
    assert caught.value.stage == "write"
    await dismiss((feeding,))


async def test_a_source_that_breaks(joined: Joined) -> None:
    feeding = await start(joined)
    await dismiss((feeding,))
    joined.feeder.reset()
    reading = asyncio.create_task(joined.reader.receive_all())
    with pytest.raises(StreamResetError) as caught:
        await joined.pumping
    await dismiss((reading,))
    assert caught.value.stage == "read"


async def test_a_stream_that_is_given_up_leaves_no_pipe_with_bytes_behind(joined: Joined) -> None:
    feeding = await start(joined)
    await dismiss((feeding,))
    await dismiss((joined.pumping,))
    left = descriptors()
    for _ in range(3):
        pipe = splicing.PIPES.take()
        assert pipe is not None
        with pytest.raises(BlockingIOError):
            os.read(pipe.exit, 1)
        splicing.PIPES.give_back(pipe, is_empty=True)
    assert descriptors() <= left + 2
