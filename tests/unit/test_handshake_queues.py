"""A few TLS handshakes at a time per destination network; others wait, and are not blamed."""

import asyncio
from contextlib import suppress

import pytest

from circumvent.api import TlsOptions
from circumvent.errors import HandshakeError
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.layer import TlsLayer
from circumvent.net.dialer import NetDialer
from circumvent.net.neighbourhood import (
    HANDSHAKES_AT_ONCE,
    STRANGERS_AT_ONCE,
    HandshakeQueues,
    network_of,
)
from circumvent.net.patience import Patience

OPTIONS = TlsOptions("server.test")


@pytest.mark.parametrize(
    ("one", "other"),
    [("192.0.2.1", "192.0.2.200"), ("2001:db8:1::1", "2001:db8:1:2::1"), ("a.b.test", "c.B.test")],
)
def test_neighbours_share_a_network(one: str, other: str) -> None:
    assert network_of(one) == network_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("192.0.2.1", "192.0.3.1"), ("2001:db8:1::1", "2001:db8:2::1"), ("a.b.test", "a.c.test")],
)
def test_strangers_do_not(one: str, other: str) -> None:
    assert network_of(one) != network_of(other)


class Silent:
    """Accepts connections and counts who began to shake hands; hangs up when told."""

    def __init__(self) -> None:
        self.begun = 0
        self.hang_up = asyncio.Semaphore(0)

    async def begins(self, count: int) -> None:
        """Wait until so many have begun, and a little longer for one too many."""
        async with asyncio.timeout(20):
            while self.begun < count:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert self.begun == count

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            if await reader.read(1):
                self.begun += 1
            await self.hang_up.acquire()
        writer.close()


async def shake(dialer: NetDialer, host: str, port: int) -> None:
    stream = await dialer.tcp(host, port)
    await TlsLayer(OPTIONS).start(stream)


async def test_a_few_at_once_per_network_and_the_rest_in_turn() -> None:
    silent = Silent()
    dialer = NetDialer(TlsClient(), queues=HandshakeQueues(hanging_after=60.0))
    async with await asyncio.start_server(silent.serve, "0.0.0.0", 0) as server:
        port = server.sockets[0].getsockname()[1]
        shakes = [asyncio.ensure_future(shake(dialer, "127.0.0.1", port)) for _ in range(5)]
        await silent.begins(STRANGERS_AT_ONCE)
        elsewhere = asyncio.ensure_future(shake(dialer, "127.0.9.1", port))
        await silent.begins(STRANGERS_AT_ONCE + 1)
        silent.hang_up.release()
        await silent.begins(STRANGERS_AT_ONCE + 2)
        waiter = shakes[4]
        waiter.cancel()  # who waits may leave
        for _ in range(6):
            silent.hang_up.release()
        results = await asyncio.gather(*shakes, elsewhere, return_exceptions=True)
        assert isinstance(results[4], asyncio.CancelledError)
        assert all(isinstance(result, HandshakeError) for result in (*results[:4], results[5]))


async def test_turns_are_given_in_order() -> None:
    queues = HandshakeQueues()
    order = []

    async def take(number: int) -> None:
        async with queues.turn("192.0.2.1"):
            order.append(number)
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(take(number)) for number in range(9)]
    await asyncio.sleep(0)
    tasks[5].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 1, 2, 3, 4, 6, 7, 8]


async def test_servers_that_never_answer_keep_no_turn_from_those_that_do() -> None:
    queues = HandshakeQueues(hanging_after=60.0)
    async with queues.turn("192.0.2.1"):
        pass

    async def hang(host: str) -> None:
        async with queues.turn(host):
            await asyncio.Event().wait()

    hanging = [asyncio.ensure_future(hang(f"192.0.2.{place}")) for place in range(10, 20)]
    await asyncio.sleep(0)
    async with asyncio.timeout(20), queues.turn("192.0.2.1"):
        pass
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_server_that_fails_is_a_stranger_again() -> None:
    queues = HandshakeQueues(hanging_after=60.0)
    begun: list[str] = []

    async def hang(host: str) -> None:
        async with queues.turn(host):
            begun.append(host)
            await asyncio.Event().wait()

    async with queues.turn("192.0.2.1"):
        pass
    with suppress(HandshakeError):
        async with queues.turn("192.0.2.1"):
            raise HandshakeError("refused", stage="tls")
    hosts = ["192.0.2.10", "192.0.2.11", "192.0.2.1"]
    hanging = [asyncio.ensure_future(hang(host)) for host in hosts]
    await asyncio.sleep(0.01)
    assert begun == hosts[:STRANGERS_AT_ONCE]
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_stranger_that_leaves_the_queue_leaves_its_place_to_others() -> None:
    queues = HandshakeQueues()
    for known in range(HANDSHAKES_AT_ONCE):
        async with queues.turn(f"192.0.2.{known}"):
            pass
    go_on = asyncio.Event()

    async def hold(host: str) -> None:
        async with queues.turn(host):
            await go_on.wait()

    holding = [asyncio.ensure_future(hold(f"192.0.2.{n}")) for n in range(HANDSHAKES_AT_ONCE)]
    await asyncio.sleep(0)
    leaving = [asyncio.ensure_future(hold(f"192.0.2.1{n}")) for n in range(STRANGERS_AT_ONCE)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    go_on.set()
    async with asyncio.timeout(20), queues.turn("192.0.2.20"):
        pass
    await asyncio.gather(*holding)


@pytest.mark.virtual_time
async def test_a_handshake_that_hangs_lets_the_next_begin() -> None:
    queues = HandshakeQueues(hanging_after=0.02)
    begun = 0

    async def hang() -> None:
        nonlocal begun
        async with queues.turn("192.0.2.1"):
            begun += 1
            await asyncio.Event().wait()

    hanging = [asyncio.ensure_future(hang()) for _ in range(3 * HANDSHAKES_AT_ONCE)]
    async with asyncio.timeout(20):
        while begun < len(hanging):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


@pytest.mark.virtual_time
async def test_waiting_for_a_turn_is_not_held_against_the_server() -> None:
    queues = HandshakeQueues()
    go_on = asyncio.Event()

    async def hold() -> None:
        async with queues.turn("192.0.2.1"):
            await go_on.wait()

    holding = [asyncio.ensure_future(hold()) for _ in range(HANDSHAKES_AT_ONCE)]
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    loop.call_later(0.4, go_on.set)
    async with Patience(0.3) as patience, queues.turn("192.0.2.1"):
        assert go_on.is_set()
        assert patience.waited(loop.time()) < 0.3
    with pytest.raises(TimeoutError):
        async with Patience(0.01), queues.turn("192.0.2.1"):
            await asyncio.Event().wait()
    await asyncio.gather(*holding)


async def test_an_unused_queue_is_forgotten() -> None:
    queues = HandshakeQueues()
    async with queues.turn("192.0.2.1"):
        assert len(queues) == 1
    assert len(queues) == 0
