"""In a crowd idle visitors are replaced, and no network takes the places of all others."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import pytest

from circumvent.relay.eviction import SHARE, choose_evicted
from tests.unit.local_sockets import until
from tests.unit.relay_fixture import LOOPBACK, PAGE, RunningRelay, running_listener

ROOM = 32
GET = b"GET / HTTP/1.1\r\n\r\n"


@dataclass(eq=False)
class Visitor:
    network: str
    served_at: float = 0.0


class Room:
    """Keeps visitors as the relay's listener does."""

    def __init__(self) -> None:
        self.present: list[Visitor] = []

    def enter(self, network: str, served_at: float = 0.0) -> Visitor:
        if len(self.present) == ROOM:
            self.present.remove(choose_evicted(self.present, network, ROOM))
        self.present.append(visitor := Visitor(network, served_at))
        return visitor


@pytest.fixture
def room() -> Room:
    return Room()


def test_the_oldest_unserved_visitor_leaves_first(room: Room) -> None:
    newcomers = [room.enter(f"net {number}") for number in range(2 * ROOM)]
    assert room.present == newcomers[ROOM:]


def test_a_network_that_fills_its_share_replaces_its_own(room: Room) -> None:
    others = [room.enter(f"net {number}") for number in range(4)]
    for _ in range(10 * ROOM):
        room.enter("crowd")
    assert room.present[:4] == others


def test_other_networks_keep_the_rest_of_the_room(room: Room) -> None:
    for _ in range(ROOM):
        room.enter("crowd")
    others = [room.enter(f"net {number}") for number in range(ROOM - ROOM // SHARE)]
    for _ in range(ROOM):
        room.enter("crowd")
    assert set(others) <= set(room.present)


def test_the_network_of_a_front_is_never_shut_out(room: Room) -> None:
    newcomers = [room.enter("front") for _ in range(3 * ROOM)]
    assert room.present == newcomers[-ROOM:]


def test_the_visitor_served_longest_ago_leaves_while_few_are_new(room: Room) -> None:
    new = [room.enter(f"net {number}") for number in range(ROOM // 4)]
    served = [room.enter("x", 1000.0 - number) for number in range(ROOM - len(new))]
    room.enter("y")
    assert room.present[:-1] == new + served[:-1]


def test_newnewcomers_leave_once_half_are_new(room: Room) -> None:
    served = [room.enter("x", 1.0) for _ in range(ROOM // 2)]
    for number in range(3 * ROOM):
        room.enter(f"net {number}")
    assert room.present[: len(served)] == served


async def silent(relay: RunningRelay, number: int) -> list[asyncio.StreamWriter]:
    """Connections that never send a byte."""
    connections = [
        await asyncio.open_connection(LOOPBACK, relay.address.port) for _ in range(number)
    ]
    await until(lambda: relay.listener.visits >= number)
    return [writer for _, writer in connections]


async def test_idle_connections_keep_no_visitor_out() -> None:
    """Nor one that is still in its TLS handshake while others come."""
    async with running_listener(max_visitors=8) as relay:
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
    async with running_listener(tls=False, max_visitors=2) as relay:
        dripping, drip = await relay.visit()
        await until(lambda: len(relay.site.received) == 1)
        reader, writer = await relay.visit()
        drip.write(b"G")
        await until(lambda: bytes(relay.site.received[0]) == b"G")
        (other,) = await silent(relay, 1)
        await until(lambda: relay.listener.visits == 3)
        with contextlib.suppress(ConnectionResetError):
            assert await dripping.read() == b""
        writer.write(GET)
        assert await reader.readexactly(len(PAGE)) == PAGE
        for each in (drip, writer, other):
            each.transport.abort()


async def test_a_visitor_is_replaced_where_memory_is_short() -> None:
    async with running_listener(tls=False) as relay:
        idle = await silent(relay, 1)
        await until(lambda: bool(relay.site.received))
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
