"""A server with several addresses: the first that answers, and from then on that one first."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from circumvent.net.happy_eyeballs import KEPT_SECONDS, AddressCache
from circumvent.net.sockets import SocketBuffers

DEAD, GOOD, OTHER = ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
LATE = "127.0.0.5"  # nobody listens there yet
SOON = 10.0
NEVER = 3600.0


class Server:
    """Listens on all three addresses; at the dead one connections hang."""

    def __init__(self, stack: ExitStack) -> None:
        self.good = stack.enter_context(socket.create_server((GOOD, 0)))
        self.port = self.good.getsockname()[1]
        stack.enter_context(socket.create_server((OTHER, self.port)))
        stack.enter_context(socket.create_server((DEAD, self.port), backlog=0))
        for _ in range(2):  # the queue is full then
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((DEAD, self.port))
        self.cache = AddressCache(next_after=0.01)

    async def connect(self, seconds: float = SOON, addresses: Sequence[str] = ADDRESSES) -> str:
        """The address that answered; raises TimeoutError."""
        async with asyncio.timeout(seconds):
            stream = await self.cache.connect(("a.test", self.port), addresses, SocketBuffers())
        answered = stream.peer
        stream.abort()
        return answered


@pytest.fixture
def server() -> Iterator[Server]:
    with ExitStack() as stack:
        yield Server(stack)


async def test_only_the_first_connection_waits_for_a_dead_address(server: Server) -> None:
    assert await server.connect() == GOOD
    server.cache.next_after = NEVER
    for _ in range(2):
        assert await server.connect() == GOOD


async def test_on_another_network_nothing_is_known(server: Server) -> None:
    assert await server.connect() == GOOD
    server.cache.forget()
    server.cache.next_after = NEVER
    with pytest.raises(TimeoutError):
        await server.connect(0.02)


async def test_after_a_while_the_first_address_gets_another_chance(
    server: Server,
) -> None:
    now = [0.0]
    server.cache = AddressCache(0.01, lambda: now[0])
    assert await server.connect() == GOOD
    now[0] += KEPT_SECONDS + 1
    server.cache.next_after = NEVER
    with pytest.raises(TimeoutError):
        await server.connect(0.02)
    server.cache.next_after = 0.01
    assert await server.connect() == GOOD
    server.cache.next_after = NEVER
    assert await server.connect() == GOOD


async def test_when_the_known_address_stops_answering_another_takes_its_place(
    server: Server,
) -> None:
    assert await server.connect() == GOOD
    server.good.close()
    assert await server.connect() == OTHER
    server.cache.next_after = NEVER
    assert await server.connect() == OTHER


async def test_a_first_address_that_answers_again_comes_first_again(server: Server) -> None:
    addresses = (LATE, GOOD)
    assert await server.connect(addresses=addresses) == GOOD
    server.good.close()
    with socket.create_server((LATE, server.port)):
        assert await server.connect(addresses=addresses) == LATE
        with socket.create_server((GOOD, server.port)):
            assert await server.connect(addresses=addresses) == LATE
