"""The race of channels: which source is asked when, and what that may cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from circumvent.api import ChannelError, Fetch, Verdict
from circumvent.discovery.hunt import AT_ONCE
from circumvent.discovery.timings import DiscoveryTimings, HuntTimings
from circumvent.status.events import Discovered, DiscoveryFailed
from tests.unit.discovery_scene import (
    MIB,
    TIMINGS,
    Begin,
    ToldChannel,
    begin_fixture,  # noqa: F401
    fresh,
)
from tests.unit.test_bundle import LINKS, signed
from tests.virtual.loop import until

pytestmark = pytest.mark.virtual_time

HUNT = TIMINGS.hunt


async def test_a_forged_answer_does_not_end_the_fetch(begin: Begin) -> None:
    scene = begin(ToldChannel("one", [b"rubbish", signed(fresh(), 1), signed(fresh())]))
    await scene.until(Discovered)
    assert scene.offers[-1] == LINKS


async def test_a_costly_channel_does_not_start_when_a_cheap_one_answers(begin: Begin) -> None:
    cheap = ToldChannel("cheap", [signed(fresh())], delay=HUNT.next_tier_after / 2)
    costly = ToldChannel("costly", tier=2)
    scene = begin(cheap, costly, up=lambda: True)
    await scene.until(Discovered)
    await asyncio.sleep(HUNT.hunt)
    assert not costly.asked


async def test_the_next_tier_starts_while_the_first_is_slow(begin: Begin) -> None:
    slow = ToldChannel("slow", [None])
    costly = ToldChannel("costly", [signed(fresh())], tier=2)
    await begin(slow, costly).until(Discovered)
    assert costly.asked[0] - slow.asked[0] == pytest.approx(HUNT.next_tier_after)


async def test_of_one_tier_the_sources_that_are_watched_come_first(begin: Begin) -> None:
    noticed = ToldChannel("noticed", [signed(fresh())])
    watched = ToldChannel("watched", [signed(fresh())], watch=HUNT.hunt)
    await begin(noticed, watched).until(Discovered)
    assert not noticed.asked


async def test_after_a_failure_the_next_source_starts_at_once(begin: Begin) -> None:
    dead = ToldChannel("dead", [ChannelError(Verdict.BLOCKED)])
    costly = ToldChannel("costly", [signed(fresh())], tier=2)
    await begin(dead, costly).until(Discovered)
    assert costly.asked[0] == dead.asked[0]


async def test_a_source_that_runs_already_may_bring_a_newer_bundle(begin: Begin) -> None:
    first = ToldChannel("first", [signed(fresh(7))], delay=2)
    second = ToldChannel("second", [signed(fresh(9))], delay=4)
    older = ToldChannel("older", [signed(fresh(5))], delay=4)
    scene = begin(first, second, older)
    await until(lambda: any(event.version == 9 for event in scene.all(Discovered)))
    await until(lambda: not older.running)
    versions = [event.version for event in scene.all(Discovered)]
    assert versions == sorted(versions)
    assert scene.offers[-1] == LINKS


async def test_costly_channels_wait_for_each_others_memory(begin: Begin) -> None:
    channels = [ToldChannel(name, [None], size=4 * MIB) for name in ("one", "two", "three")]
    scene = begin(*channels)
    await asyncio.sleep(HUNT.fetch / 2)
    assert sum(channel.running for channel in channels) == 1
    await scene.until(DiscoveryFailed)
    assert max(attempt.peak for attempt in scene.store.attempts.newest(9)) <= 8 * MIB


async def test_a_source_without_a_turn_is_named_too(begin: Begin) -> None:
    channels = [ToldChannel(f"silent{number}", [None]) for number in range(AT_ONCE + 2)]
    timings = DiscoveryTimings(hunt=HuntTimings(hunt=5.0))
    (failed,) = await begin(*channels, timings=timings).until(DiscoveryFailed)
    assert len(failed.reasons) == len(channels)
    assert sum("no time left to ask" in reason for reason in failed.reasons) == 2


async def test_a_flood_of_rubbish_does_not_hold_up_the_next_source(begin: Begin) -> None:
    class Flood(ToldChannel):
        async def fetch(self, _: Fetch) -> AsyncGenerator[bytes, None]:
            while True:
                await asyncio.sleep(0.01)
                yield b"rubbish" * 1000

    good = ToldChannel("good", [signed(fresh())], tier=2)
    await begin(Flood("flood"), good).until(Discovered)


async def test_hanging_sources_do_not_hold_up_the_others(begin: Begin) -> None:
    hanging = [ToldChannel(f"silent{number}", [None]) for number in range(2 * AT_ONCE)]
    good = ToldChannel("good", [signed(fresh())], tier=2)
    scene = begin(*hanging, good)
    await scene.until(Discovered)
    assert good.asked[0] - hanging[0].asked[0] < HUNT.fetch
    assert all(channel.asked for channel in hanging)
