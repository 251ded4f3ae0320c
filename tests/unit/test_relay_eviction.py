"""In a crowd those leave who only sit there, and no network takes everybody's place."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import pytest

from circumvent.relay.eviction import SHARE, first_to_leave
from tests.unit.local_sockets import until
from tests.unit.relay_fixture import LOOPBACK, PAGE, RunningRelay, house

ROOM = 32
GET = b"GET / HTTP/1.1\r\n\r\n"


@dataclass(eq=False)
class Somebody:
    network: str
    served_at: float = 0.0


class Room:
    """As the relay's port keeps it."""

    def __init__(self) -> None:
        self.present: list[Somebody] = []

    def enter(self, network: str, served_at: float = 0.0) -> Somebody:
        if len(self.present) == ROOM:
            self.present.remove(first_to_leave(self.present, network, ROOM))
        self.present.append(comer := Somebody(network, served_at))
        return comer


@pytest.fixture
def room() -> Room:
    return Room()


def test_who_came_first_and_got_nothing_leaves_first(room: Room) -> None:
    comers = [room.enter(f"net {number}") for number in range(2 * ROOM)]
    assert room.present == comers[ROOM:]


def test_a_network_that_fills_its_share_makes_room_for_its_own(room: Room) -> None:
    others = [room.enter(f"net {number}") for number in range(4)]
    for _ in range(10 * ROOM):
        room.enter("crowd")
    assert room.present[:4] == others


def test_the_others_have_the_rest_of_the_room(room: Room) -> None:
    for _ in range(ROOM):
        room.enter("crowd")
    others = [room.enter(f"net {number}") for number in range(ROOM - ROOM // SHARE)]
    for _ in range(ROOM):
        room.enter("crowd")
    assert set(others) <= set(room.present)


def test_a_web_server_in_front_is_a_network_that_nobody_shuts_out(room: Room) -> None:
    comers = [room.enter("front") for _ in range(3 * ROOM)]
    assert room.present == comers[-ROOM:]


def test_who_was_served_longest_ago_leaves_while_few_are_new(room: Room) -> None:
    new = [room.enter(f"net {number}") for number in range(ROOM // 4)]
    served = [room.enter("x", 1000.0 - number) for number in range(ROOM - len(new))]
    room.enter("y")
    assert room.present[:-1] == new + served[:-1]


def test_newcomers_leave_once_half_are_new(room: Room) -> None:
    served = [room.enter("x", 1.0) for _ in range(ROOM // 2)]
    for number in range(3 * ROOM):
        room.enter(f"net {number}")
    assert room.present[: len(served)] == served


async def silent(relay: RunningRelay, number: int) -> list[asyncio.StreamWriter]:
    """Connections that never say a word."""
    connections = [
        await asyncio.open_connection(LOOPBACK, relay.address.port) for _ in range(number)
    ]
    await until(lambda: relay.front.visits >= number)
    return [writer for _, writer in connections]


async def test_who_only_sits_there_keeps_nobody_out() -> None:
    """Not even one who is still shaking hands while others come."""
    async with house(max_visitors=8) as relay:
        idle = await silent(relay, 8)
        for _ in range(6):
            reader, writer = await relay.visit()
            idle += await silent(relay, 2)
            writer.write(GET)
            assert await reader.readexactly(len(PAGE)) == PAGE
            idle.append(writer)
        for writer in idle:
            writer.transport.abort()


async def test_dripping_bytes_keeps_no_place() -> None:
    async with house(tls=False, max_visitors=2) as relay:
        dripping, drip = await relay.visit()
        await until(lambda: len(relay.site.heard) == 1)
        reader, writer = await relay.visit()
        drip.write(b"G")
        await until(lambda: bytes(relay.site.heard[0]) == b"G")
        (other,) = await silent(relay, 1)
        await until(lambda: relay.front.visits == 3)
        with contextlib.suppress(ConnectionResetError):
            assert await dripping.read() == b""
        writer.write(GET)
        assert await reader.readexactly(len(PAGE)) == PAGE
        for each in (drip, writer, other):
            each.transport.abort()


async def test_where_memory_is_short_somebody_leaves_too() -> None:
    async with house(tls=False) as relay:
        idle = await silent(relay, 1)
        await until(lambda: bool(relay.site.heard))
        account = relay.memory.account("sessions")
        sessions = 0
        while account.try_charge(1 << 14):
            sessions += 1 << 14
        reader, writer = await relay.visit()
        writer.write(GET)
        assert await reader.readexactly(len(PAGE)) == PAGE
        account.discharge(sessions)
        for each in (writer, *idle):
            each.transport.abort()
