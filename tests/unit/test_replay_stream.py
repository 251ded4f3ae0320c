"""ReplayStream: what was looked at is held, and read once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from circumvent.errors import BudgetError, StreamResetError
from circumvent.memory import PAGE, Account, Memory
from circumvent.net.replay import MAX_HELD, ReplayStream
from circumvent.testing.steps import read_all, read_exactly, write_all
from tests.virtual.stream import MemoryStream, pair

FLIGHT = bytes(range(200))


@dataclass(frozen=True)
class Ends:
    near: ReplayStream
    far: MemoryStream
    memory: Memory
    account: Account


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    memory = Memory(4 << 20, poison=True)
    account = memory.account("client")
    near, far = pair()
    stream = ReplayStream(near, account)
    yield Ends(stream, far, memory, account)
    stream.abort()
    assert memory.leased == 0


def look(stream: ReplayStream, size: int = PAGE) -> bytes | None:
    block = memoryview(bytearray(size))
    count = stream.peek_into(block)
    return None if count is None else bytes(block[:count])


async def test_a_look_shows_the_same_bytes_until_they_are_read(ends: Ends) -> None:
    await write_all(ends.far, FLIGHT)
    assert look(ends.near) == look(ends.near) == FLIGHT
    assert await read_exactly(ends.near, len(FLIGHT)) == FLIGHT
    assert look(ends.near) is None


async def test_a_look_shows_what_came_since_the_last_one(ends: Ends) -> None:
    await write_all(ends.far, FLIGHT)
    assert look(ends.near) == FLIGHT
    await write_all(ends.far, b"more")
    assert look(ends.near) == FLIGHT + b"more"


async def test_a_short_look_shows_the_beginning(ends: Ends) -> None:
    await write_all(ends.far, FLIGHT)
    assert look(ends.near, 10) == FLIGHT[:10]
    assert look(ends.near, 20) == FLIGHT[:20]


async def test_what_is_discarded_is_not_shown_again(ends: Ends) -> None:
    await write_all(ends.far, FLIGHT)
    look(ends.near)
    ends.near.discard(50)
    assert look(ends.near) == FLIGHT[50:]
    assert await read_exactly(ends.near, 150, 40) == FLIGHT[50:]


async def test_the_lease_goes_back_with_the_last_held_byte(ends: Ends) -> None:
    assert look(ends.near) is None
    assert ends.memory.leased == 0
    await write_all(ends.far, FLIGHT)
    look(ends.near)
    assert ends.memory.leased == ends.account.held > 0
    ends.near.discard(len(FLIGHT))
    assert ends.memory.leased == 0


async def test_to_close_it_closes_its_base_and_gives_the_lease_back(ends: Ends) -> None:
    await write_all(ends.far, FLIGHT)
    assert look(ends.near) == FLIGHT
    await ends.near.aclose()
    assert ends.memory.leased == 0
    assert await read_all(ends.far) == b""


async def test_no_more_is_held_than_the_limit(ends: Ends) -> None:
    await write_all(ends.far, bytes(2 * MAX_HELD))
    look(ends.near, 3 * MAX_HELD)
    assert ends.account.held <= MAX_HELD + PAGE
    assert await read_exactly(ends.near, 2 * MAX_HELD) == bytes(2 * MAX_HELD)


async def test_it_waits_until_as_much_is_there_as_is_expected(ends: Ends) -> None:
    await write_all(ends.far, FLIGHT)
    look(ends.near)
    ends.near.expect(len(FLIGHT) + 2)
    waiting = asyncio.ensure_future(ends.near.wait_readable())
    await write_all(ends.far, b"a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    await write_all(ends.far, b"b")
    await waiting
    assert look(ends.near) == FLIGHT + b"ab"


async def test_it_does_not_wait_for_what_is_held(ends: Ends) -> None:
    await write_all(ends.far, FLIGHT)
    look(ends.near)
    await ends.near.wait_readable()


async def test_the_end_is_seen_behind_what_is_held(ends: Ends) -> None:
    await write_all(ends.far, FLIGHT)
    ends.far.write_eof()
    assert look(ends.near) == FLIGHT
    assert ends.near.ended
    ends.near.expect(len(FLIGHT) + 1)
    await ends.near.wait_readable()
    assert await read_all(ends.near) == FLIGHT
    assert look(ends.near) == b""


async def test_a_cut_ends_the_wait_for_more_and_is_raised_by_the_next_look(ends: Ends) -> None:
    await write_all(ends.far, FLIGHT)
    look(ends.near)
    ends.near.expect(len(FLIGHT) + 1)
    waiting = asyncio.ensure_future(ends.near.wait_readable())
    await asyncio.sleep(0)
    ends.far.abort()
    await waiting
    with pytest.raises(StreamResetError):
        look(ends.near)


async def test_without_memory_nothing_is_lost(ends: Ends) -> None:
    await write_all(ends.far, FLIGHT)
    greedy = ends.memory.account("greedy")
    taken = []
    while lease := greedy.try_hold(PAGE):
        taken.append(lease)
    with pytest.raises(BudgetError):
        look(ends.near)
    for lease in taken:
        lease.release()
    assert look(ends.near) == FLIGHT
