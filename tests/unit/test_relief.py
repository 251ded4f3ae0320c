"""When memory is short: no race, then no spare tunnels, then the longest-stalled stream."""

import asyncio
from pathlib import Path

import pytest

from circumvent.errors import (
    BudgetError,
)
from circumvent.memory import Account, Pressure
from circumvent.tunnels.live import LiveTunnel
from circumvent.tunnels.timings import ReliefTimings
from tests.unit.far_side import (
    STREAM,
    FarStream,
    all_of,
    echo,
    nodes,
)
from tests.unit.running_client import BUDGET, RunningClient, running_client
from tests.virtual.loop import until

pytestmark = pytest.mark.virtual_time


SITE, FLOOD = "site.test", "flood.test"


async def flood(stream: FarStream) -> None:
    """Send without end."""
    while True:
        await stream.send(bytes(1 << 16))


def fill(client: RunningClient, percent: int) -> tuple[Account, int]:
    """Charge so much that this share of the budget is in use."""
    account = client.memory.account("others")
    size = BUDGET * percent // 100 + 1 - client.memory.charged - client.memory.leased
    account.charge(size)
    return account, size


def loosen(client: RunningClient) -> None:
    """Let durable use fill the whole budget, so that CRITICAL can be reached at will."""
    client.memory.step_reserve = 0


class TestRelief:
    async def test_scarce_memory_stops_the_race_and_better_times_start_it(
        self, tmp_path: Path
    ) -> None:
        async with nodes(2) as made:
            for node in made:
                await node.kill()
            async with running_client(all_of(made), tmp_path) as client:
                account, size = fill(client, Pressure.SCARCE)
                await asyncio.sleep(1.0)
                for node in made:
                    node.start()
                await asyncio.sleep(60.0)
                assert not client.manager.tunnels
                account.discharge(size)
                await client.up(2)

    async def test_critical_memory_drops_spare_tunnels_but_not_the_last(
        self, tmp_path: Path
    ) -> None:
        async with nodes(3, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
            await client.up(3)
            browser = await client.browse(SITE)
            await browser.send(b"hello")
            await browser.receive_exactly(5)
            (used,) = [tunnel for tunnel in client.manager.tunnels if tunnel.streams]
            loosen(client)
            account, size = fill(client, Pressure.CRITICAL + 2)
            await until(lambda: client.manager.tunnels == [used])
            await browser.send(b"still")
            assert await browser.receive_exactly(5) == b"still"
            account.discharge(size)
            await client.up(3)

    async def test_then_stalled_streams_go_one_by_one_and_reading_ones_stay(
        self, tmp_path: Path
    ) -> None:
        handlers = {SITE: echo, FLOOD: flood}
        async with nodes(1, handlers) as made, running_client(all_of(made), tmp_path) as client:
            (tunnel,) = await client.up(1)
            reading = await client.browse(SITE)
            await reading.send(b"hello")
            await reading.receive_exactly(5)
            stalled = []
            for _ in range(3):
                browser = await client.browse(FLOOD)
                await browser.send(b"x")  # and it reads nothing
                stalled.append(browser)
                await until(lambda: stands_still(tunnel, len(stalled)))
            loosen(client)
            account, size = fill(client, Pressure.CRITICAL)
            assert await until(stalled[0].served.done) > ReliefTimings().stalled_after / 2
            assert sum(browser.served.done() for browser in stalled) == 1
            account.discharge(size)
            await asyncio.sleep(2.0)
            assert sum(browser.served.done() for browser in stalled) == 1
            await reading.send(b"still")
            assert await reading.receive_exactly(5) == b"still"

    async def test_streams_wait_for_their_charge_in_order(self, tmp_path: Path) -> None:
        async with nodes(1, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
            await client.up(1)
            account = client.memory.account("others")
            account.charge(BUDGET - client.memory.step_reserve - client.memory.charged - STREAM)
            browsers = []
            for _ in range(4):
                browser = await client.browse(SITE)
                await browser.send(b"x")
                browsers.append(browser)
                await asyncio.sleep(0.5)
            for number, browser in enumerate(browsers, start=1):
                assert await browser.receive_exactly(1) == b"x"
                await asyncio.sleep(0.5)
                assert len(made[0].streams_to(SITE)) == number
                browser.reset()
            account.discharge(account.charged)
            await client.free()

    async def test_who_waits_in_vain_hears_why_before_it_is_let_in(self, tmp_path: Path) -> None:
        async with nodes(1, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
            await client.up(1)
            account = client.memory.account("others")
            account.charge(BUDGET - client.memory.step_reserve - client.memory.charged)
            browser = await client.browse(SITE)
            with pytest.raises(BudgetError, match="--memory"):
                await browser.served
            assert not browser.accepted
            account.discharge(account.charged)
            assert not client.memory.charges_wait


def stands_still(tunnel: LiveTunnel, count: int) -> bool:
    """Whether so many clients take nothing more."""
    return sum(not stream.client.room() for stream in tunnel.streams if stream.client) == count
