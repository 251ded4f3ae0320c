"""When memory is short: no race, then no spare tunnels, then the longest-stalled stream."""

import asyncio
from pathlib import Path

import pytest

from circumvent.errors import BudgetError
from circumvent.memory import Account, Pressure
from circumvent.tunnels import dispatch
from circumvent.tunnels.live import LiveTunnel
from tests.unit.far_side import (
    BUDGET,
    STREAM,
    House,
    Visit,
    all_of,
    echo,
    house,
    hurry,
    nodes,
    until,
)

SITE, FLOOD = "site.test", "flood.test"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def flood(visit: Visit) -> None:
    """Send without end."""
    while True:
        await visit.say(bytes(1 << 16))


def fill(home: House, percent: int) -> tuple[Account, int]:
    """Charge so much that this share of the budget is in use."""
    account = home.memory.account("others")
    size = BUDGET * percent // 100 + 1 - home.memory.charged - home.memory.leased
    account.charge(size)
    return account, size


def loosen(monkeypatch: pytest.MonkeyPatch, home: House) -> None:
    """Let durable use fill the whole budget, so that CRITICAL can be reached at will."""
    monkeypatch.setattr(home.memory, "step_reserve", 0)


class TestRelief:
    async def test_scarce_memory_stops_the_race_and_better_times_start_it(
        self, tmp_path: Path
    ) -> None:
        async with nodes(2) as made:
            for node in made:
                await node.kill()
            async with house(all_of(made), tmp_path) as home:
                account, size = fill(home, Pressure.SCARCE)
                await asyncio.sleep(0.05)
                for node in made:
                    await node.start()
                await asyncio.sleep(0.2)
                assert not home.manager.tunnels
                account.discharge(size)
                await home.up(2)

    async def test_critical_memory_drops_spare_tunnels_but_not_the_last(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with nodes(3, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            await home.up(3)
            browser = await home.visit(SITE)
            await browser.say(b"hello")
            await browser.hear(5)
            (used,) = [tunnel for tunnel in home.manager.tunnels if tunnel.streams]
            loosen(monkeypatch, home)
            account, size = fill(home, Pressure.CRITICAL + 2)
            await until(lambda: home.manager.tunnels == [used])
            await browser.say(b"still")
            assert await browser.hear(5) == b"still"
            account.discharge(size)
            await home.up(3)

    async def test_then_stalled_streams_go_one_by_one_and_reading_ones_stay(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        talks = {SITE: echo, FLOOD: flood}
        async with nodes(1, talks) as made, house(all_of(made), tmp_path) as home:
            (tunnel,) = await home.up(1)
            reading = await home.visit(SITE)
            await reading.say(b"hello")
            await reading.hear(5)
            stalled = []
            for _ in range(3):
                browser = await home.visit(FLOOD)
                browser.writer.transport.pause_reading()  # type: ignore[attr-defined]
                browser.writer.write(b"x")
                stalled.append(browser)
                await until(lambda: stands_still(tunnel, len(stalled)))
            loosen(monkeypatch, home)
            account, size = fill(home, Pressure.CRITICAL)
            await until(stalled[0].served.done)
            assert sum(browser.served.done() for browser in stalled) == 1
            account.discharge(size)
            await asyncio.sleep(0.1)
            assert sum(browser.served.done() for browser in stalled) == 1
            await reading.say(b"still")
            assert await reading.hear(5) == b"still"

    async def test_streams_wait_for_their_charge_in_order(self, tmp_path: Path) -> None:
        async with nodes(1, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            await home.up(1)
            account = home.memory.account("others")
            account.charge(BUDGET - home.memory.step_reserve - home.memory.charged - STREAM)
            browsers = []
            for _ in range(4):
                browser = await home.visit(SITE)
                await browser.say(b"x")
                browsers.append(browser)
                await asyncio.sleep(0.02)
            for number, browser in enumerate(browsers, start=1):
                assert await browser.hear(1) == b"x"
                await asyncio.sleep(0.02)
                assert len(made[0].visits_to(SITE)) == number
                browser.leave()
            account.discharge(account.charged)
            await home.free()

    async def test_who_waits_in_vain_hears_why_before_it_is_let_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dispatch, "WAIT_FOR_MEMORY", 0.05)
        async with nodes(1, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            await home.up(1)
            account = home.memory.account("others")
            account.charge(BUDGET - home.memory.step_reserve - home.memory.charged)
            browser = await home.visit(SITE)
            with pytest.raises(BudgetError, match="--memory"):
                await browser.served
            assert not browser.accepted
            account.discharge(account.charged)
            assert not home.memory.charges_wait


def stands_still(tunnel: LiveTunnel, count: int) -> bool:
    """Whether so many clients take nothing more."""
    return sum(not stream.client.room() for stream in tunnel.streams if stream.client) == count
