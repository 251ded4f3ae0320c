"""The pool: who is kept, who is replaced, and when what failed comes back."""

import asyncio
import operator
import socket
from itertools import pairwise
from pathlib import Path

import pytest

from circumvent.api import Dialer, ServerEntry, Tunnel
from circumvent.errors import (
    DialError,
    NoTunnelError,
)
from circumvent.memory import Account
from circumvent.status.events import TunnelLost, TunnelUp
from circumvent.tunnels.timings import BackoffTimings, PoolTimings
from circumvent.wire.address import Destination
from tests.unit.far_side import (
    DIAL,
    GOOD_ANSWER,
    FarTransport,
    all_of,
    answer,
    candidate,
    echo,
    nodes,
)
from tests.unit.running_client import RunningClient, running_client
from tests.virtual.loop import until

pytestmark = pytest.mark.virtual_time


class Nameless(FarTransport):
    """A server whose name is not found nine times."""

    def __init__(self, code: int) -> None:
        super().__init__("nameless")
        self.code = code
        self.left = 9

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        self.left -= 1
        if self.left < 0:
            return await super().connect(entry, dialer, account)
        raise DialError("no such name", stage="resolve", errno=self.code)


TIMINGS = BackoffTimings()
MINUTE = TIMINGS.pauses[-1]  # nearly
SOON = 10.0  # much less


async def fail_often(client: RunningClient) -> None:
    """Wait until the only server that fails is not tried for a minute."""
    await until(lambda: len(client.failures()) == len(TIMINGS.pauses))


async def test_it_keeps_as_many_as_wanted(tmp_path: Path) -> None:
    async with nodes(5) as made, running_client(all_of(made), tmp_path, wanted=3) as client:
        await client.up(3)
        await asyncio.sleep(MINUTE)
        assert len(client.manager.tunnels) == 3
        assert sum(isinstance(event, TunnelUp) for event in client.events) == 3


async def test_it_prefers_what_differs_in_transport_and_network(tmp_path: Path) -> None:
    async with nodes(3, apart=True) as made:
        same = [candidate(made[0], FarTransport("one")) for _ in range(6)]
        servers = [*same, candidate(made[1], FarTransport("two")), candidate(made[2])]
        async with running_client(servers, tmp_path, wanted=3) as client:
            tunnels = await client.up(3)
    assert {tunnel.candidate.transport.name for tunnel in tunnels} == {"one", "two", "far"}
    assert len({tunnel.candidate.entry.host for tunnel in tunnels}) == 3


async def test_a_dead_tunnel_is_replaced_at_once(tmp_path: Path) -> None:
    async with nodes(4) as made, running_client(all_of(made), tmp_path, wanted=3) as client:
        dead = (await client.up(3))[0]
        client.manager.lose(dead, "for the test")
        assert await until(lambda: len(client.manager.tunnels) == 3) < TIMINGS.pauses[0]
        assert dead not in client.manager.tunnels
        assert sum(isinstance(event, TunnelLost) for event in client.events) == 1


async def test_a_hopeless_candidate_does_not_keep_others_out(tmp_path: Path) -> None:
    async with nodes(2) as (good, hopeless):
        hopeless.freeze()
        servers = [candidate(good), candidate(hopeless)]
        async with running_client(servers, tmp_path, wanted=2) as client:
            (tunnel,) = await client.up(1)
            await until(lambda: bool(hopeless.streams))
            client.manager.lose(tunnel, "for the test")
            await client.up(1)
            assert not client.failures()  # the race still runs


async def test_a_server_that_keeps_failing_is_tried_less_and_less(tmp_path: Path) -> None:
    async with nodes(1) as (node,):
        await node.kill()
        async with running_client([candidate(node)], tmp_path) as client:
            await until(lambda: len(client.attempts()) > len(TIMINGS.pauses))
            times = [attempt.at for attempt in reversed(client.attempts())]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert all(map(operator.ge, pauses, TIMINGS.pauses))


async def test_so_is_one_whose_tunnels_die_soon_again_and_again(tmp_path: Path) -> None:
    async with nodes(1) as (node,), running_client([candidate(node)], tmp_path) as client:
        for _ in range(4):
            (tunnel,) = await client.up(1)
            client.manager.lose(tunnel, "for the test")
        assert await until(lambda: client.manager.tunnels) >= TIMINGS.pauses[3]


async def test_old_failures_do_not_count_against_a_tunnel_that_lived(tmp_path: Path) -> None:
    async with nodes(1) as (node,), running_client([candidate(node)], tmp_path) as client:
        for _ in range(9):
            (tunnel,) = await client.up(1)
            await asyncio.sleep(PoolTimings().steady_after + 1.0)
            client.manager.lose(tunnel, "for the test")
        assert await until(lambda: client.manager.tunnels) < 1.0


async def test_once_no_tunnel_is_up_back_off_ends_early(tmp_path: Path) -> None:
    async with nodes(2) as (good, bad):
        await bad.kill()
        servers = [candidate(good), candidate(bad)]
        async with running_client(servers[:1], tmp_path, wanted=2) as client:
            (tunnel,) = await client.up(1)
            client.manager.offer(servers)
            await fail_often(client)
            bad.start()
            client.manager.lose(tunnel, "for the test")
            up = client.manager.tunnels
            assert await until(lambda: servers[1] in [each.candidate for each in up]) < SOON


async def test_a_client_that_waits_ends_a_back_off_once(tmp_path: Path) -> None:
    async with nodes(1, {"echo.test": echo}) as (node,):
        await node.kill()
        async with running_client([candidate(node)], tmp_path) as client:
            await fail_often(client)
            for _ in range(3):
                with pytest.raises(NoTunnelError):
                    await client.dispatcher.open(Destination("echo.test", 443))
            assert len(client.attempts()) == len(TIMINGS.pauses) + 1
            node.start()
            client.health.revalidate()
            browser = await client.browse("echo.test")
            await browser.send(b"hello")
            assert await browser.receive_exactly(5) == b"hello"


async def test_a_server_that_comes_up_is_news_for_the_others(tmp_path: Path) -> None:
    async with nodes(2) as (one, other):
        await one.kill()
        servers = all_of([one, other])
        async with running_client(servers[:1], tmp_path, wanted=2) as client:
            await fail_often(client)
            one.start()
            client.manager.offer(servers)
            assert await until(lambda: len(client.manager.tunnels) == 2) < SOON


@pytest.mark.parametrize(
    ("code", "is_soon"), [(socket.EAI_AGAIN, True), (socket.EAI_NONAME, False)]
)
async def test_names_that_do_not_resolve_for_a_while_are_asked_for_soon(
    tmp_path: Path, code: int, *, is_soon: bool
) -> None:
    async with (
        nodes(1) as (node,),
        running_client([candidate(node, Nameless(code))], tmp_path) as client,
    ):
        seconds = await until(lambda: client.manager.tunnels)
        assert (seconds < 2 * MINUTE) is is_soon


async def test_another_network_ends_every_back_off(tmp_path: Path) -> None:
    async with nodes(1) as (node,):
        await node.kill()
        async with running_client([candidate(node)], tmp_path) as client:
            await fail_often(client)
            node.start()
            client.look_at_network(b"cafe")
            assert await until(lambda: client.manager.tunnels) < 1.0


async def test_closing_in_the_middle_of_a_race_leaves_nothing(tmp_path: Path) -> None:
    async with nodes(3) as made:
        for node in made:
            node.freeze()
        async with running_client(all_of(made), tmp_path) as client:
            await until(lambda: client.memory.charged >= 2 * DIAL)


async def test_a_client_waits_for_the_first_tunnel(tmp_path: Path) -> None:
    async with nodes(1, {"echo.test": echo}) as (node,):
        node.answer_probes(answer(GOOD_ANSWER, after=3.0))
        async with running_client([candidate(node)], tmp_path) as client:
            browser = await client.browse("echo.test")
            await browser.send(b"hello")
            assert await browser.receive_exactly(5) == b"hello"


async def test_more_are_wanted_once_all_have_failed_and_no_tunnel_is_up(tmp_path: Path) -> None:
    async with nodes(2) as made:
        dead = candidate(made[0], Nameless(socket.EAI_NONAME))
        async with running_client([dead], tmp_path) as client:
            await until(client.manager.has_tried_all)
            client.manager.offer([candidate(made[1])])
            assert not client.manager.has_tried_all()
            await client.up(1)
            assert not client.manager.has_tried_all()
