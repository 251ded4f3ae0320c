"""Paths that froze: what users' traffic tells, although probes pass."""

import asyncio
from pathlib import Path

import pytest

from circumvent.api import CarrierStatus, Dialer, LayerStream, ServerEntry, Tunnel
from circumvent.memory import Account
from circumvent.tunnels.live import PROVEN_BYTES, TunnelState, UserStream
from circumvent.tunnels.timings import (
    PoolTimings,
    VitalsTimings,
)
from circumvent.tunnels.vitals import queueing
from tests.unit.far_side import (
    DIAL,
    FarStream,
    FarTransport,
    FarTunnel,
    Handler,
    all_of,
    candidate,
    echo,
    never_answer,
    nodes,
)
from tests.unit.running_client import running_client
from tests.unit.test_failover import POST, SITE
from tests.virtual.loop import running_loop, until
from tests.virtual.stream import MemoryStream

pytestmark = pytest.mark.virtual_time


def freeze_after(size: int) -> Handler:
    """A server behind a filter that lets so many bytes of each flow pass."""

    async def handle(stream: FarStream) -> None:
        await stream.receive()
        await stream.send(bytes(size))
        stream.freeze()
        await asyncio.Event().wait()

    return handle


async def test_flows_that_freeze_while_probes_pass_end_in_replacement(tmp_path: Path) -> None:
    async with nodes(1, {SITE: freeze_after(16 << 10)}) as (node,):
        server = candidate(node)
        async with running_client([server], tmp_path) as client:
            (tunnel,) = await client.up(1)
            for browser in [await client.browse(SITE) for _ in range(3)]:
                await browser.send(POST)
                await browser.receive_exactly(16 << 10)
                await browser.send(b"more, please")
            await until(lambda: tunnel.state is TunnelState.DEAD)
            score = client.store.scores.on(client.manager.network)[server.id]
            assert (score.failures, score.user_failures) == (0, 1)
            assert "users' traffic freezes" in str(client.events)


async def test_who_fails_users_alone_rests_long_though_it_would_win_the_next_race(
    tmp_path: Path,
) -> None:
    async with nodes(2) as made, running_client(all_of(made), tmp_path) as client:
        tunnel = (await client.up(2))[0]
        client.manager.lose(tunnel, "probes pass", users_failed=True)
        await asyncio.sleep(PoolTimings().frozen_pause / 2)
        assert len(client.manager.tunnels) == 1


async def test_on_a_proven_path_only_the_frozen_stream_is_cut(tmp_path: Path) -> None:
    handlers = {SITE: freeze_after(PROVEN_BYTES), "live.test": echo}
    async with nodes(1, handlers) as made, running_client(all_of(made), tmp_path) as client:
        (tunnel,) = await client.up(1)
        other = await client.browse("live.test")
        for browser in [await client.browse(SITE) for _ in range(3)]:
            await browser.send(POST)
            await browser.receive_exactly(PROVEN_BYTES)
            await browser.send(b"more, please")
            asked = running_loop().time()
            with pytest.raises(ConnectionResetError):
                await browser.receive_all()
            assert running_loop().time() - asked > VitalsTimings().frozen_after
        await other.send(POST)
        assert await other.receive_exactly(len(POST)) == POST
        assert client.manager.tunnels == [tunnel]
        frozen = client.failures()
        assert {(attempt.what, attempt.stage) for attempt in frozen} == {("stream", "freeze")}


async def test_silence_alone_is_no_freeze(tmp_path: Path) -> None:
    async def greet_and_listen(stream: FarStream) -> None:
        await stream.receive()
        await stream.send(b"x")
        await never_answer(stream)

    handlers = {SITE: greet_and_listen}
    async with nodes(1, handlers) as made, running_client(all_of(made), tmp_path) as client:
        (tunnel,) = await client.up(1)
        for browser in [await client.browse(SITE) for _ in range(4)]:
            await browser.send(POST)
            await browser.receive_exactly(1)
            await browser.send(POST)
        streams = {stream.stream for stream in tunnel.streams}
        await asyncio.sleep(10 * VitalsTimings().frozen_after)
        assert client.manager.tunnels == [tunnel]
        assert {stream.stream for stream in tunnel.streams} == streams


async def test_the_longest_queue_is_that_of_a_flow_in_progress(tmp_path: Path) -> None:
    timings = VitalsTimings()
    async with (
        nodes(1, {SITE: echo}) as (node,),
        running_client([candidate(node)], tmp_path) as client,
    ):
        (tunnel,) = await client.up(1)
        for _ in range(2):
            browser = await client.browse(SITE)
            await browser.send(POST)
            await browser.receive_exactly(len(POST))
        short, long = (below(stream) for stream in tunnel.streams)
        assert queueing([tunnel], timings) == 0.0
        short.queueing, long.queueing = 2 * timings.least_queue, 3 * timings.least_queue
        assert queueing([tunnel], timings) == long.queueing
        long.freeze()
        await asyncio.sleep(2 * timings.fresh)
        assert queueing([tunnel], timings) == short.queueing
        short.queueing = timings.least_queue / 2
        assert queueing([tunnel], timings) == 0.0


async def test_a_path_that_gives_signs_is_asked_only_now_and_then(tmp_path: Path) -> None:
    async with (
        nodes(1, {SITE: never_answer}) as (node,),
        running_client([candidate(node)], tmp_path) as client,
    ):
        (tunnel,) = await client.up(1)
        await (await client.browse(SITE)).send(POST)
        await until(lambda: any(stream.waiting_since for stream in tunnel.streams))
        (stream,) = tunnel.streams
        rarely, often = reversed(VitalsTimings().ask_again)
        await asyncio.sleep(4 * rarely)
        asked = below(stream).asked
        assert 3 <= asked.count(True) <= 4 * rarely / often + 1
        assert asked == [True, False] * (len(asked) // 2) + [True] * (len(asked) % 2)


class Bonded(FarTransport):
    """A transport of bonded tunnels, whose carriers are as a test says."""

    def __init__(self, *carriers: CarrierStatus) -> None:
        super().__init__("bonded")
        self.carriers = carriers

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        assert account.charged >= DIAL

        class BondedTunnel(FarTunnel):
            carriers = self.carriers

        return BondedTunnel(entry, dialer)


async def test_queues_of_carriers_that_are_up_count_too(tmp_path: Path) -> None:
    carriers = [
        CarrierStatus("tls", state, rtt, 0, 0)
        for state, rtt in (("up", 500.0), ("suspected", 900.0))
    ]
    async with (
        nodes(1) as (node,),
        running_client([candidate(node, Bonded(*carriers))], tmp_path) as client,
    ):
        (tunnel,) = await client.up(1)
        assert queueing([tunnel], VitalsTimings()) == pytest.approx(0.5 - tunnel.rtt)


def below(stream: UserStream) -> MemoryStream:
    """The connection to the server."""
    assert isinstance(stream.stream, LayerStream)
    assert isinstance(stream.stream.base, MemoryStream)
    return stream.stream.base
