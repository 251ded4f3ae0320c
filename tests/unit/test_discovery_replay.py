"""Discovery when a censor replays old bundles."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from circumvent.api import ChannelError, Verdict
from circumvent.discovery import discovery
from circumvent.status.events import Discovered, DiscoveryFailed
from tests.unit.discovery_scene import (
    OFTEN,
    Answer,
    Begin,
    ToldChannel,
    begin_fixture,  # noqa: F401
    fresh,
    pass_days,
    valid_after,
)
from tests.unit.test_bundle import BUCKET_PUBLIC, signed
from tests.virtual.loop import until

pytestmark = pytest.mark.virtual_time


async def test_an_older_bundle_is_refused_after_a_restart_too(begin: Begin) -> None:
    await begin(ToldChannel("one", [signed(fresh(9))])).until(Discovered)
    pass_days(2)
    scene = begin(ToldChannel("one", [signed(valid_after(2, 8))]))
    (failed,) = await scene.until(DiscoveryFailed)
    assert "a newer one was seen before" in str(failed)


async def test_when_nothing_is_newer_mostly_no_other_source_is_asked(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "THOROUGH_SHARE", 0.0)
    one, costly = ToldChannel("one", [signed(fresh())]), ToldChannel("costly", tier=2)
    scene = begin(one, costly, up=lambda: True, timings=OFTEN)
    await scene.until(Discovered)
    one.answers = [ChannelError(Verdict.UNCHANGED)]
    await until(lambda: len(one.asked) > 3)
    assert not costly.asked


REPLAYS: dict[str, Callable[[], Answer]] = {
    "unchanged": lambda: ChannelError(Verdict.UNCHANGED),
    "equal": lambda: signed(fresh(7)),
    "older": lambda: signed(fresh(6)),
    "for another bucket": lambda: signed(fresh(9), bucket=BUCKET_PUBLIC),
}


@pytest.mark.parametrize("replayed", REPLAYS.values(), ids=REPLAYS.keys())
async def test_without_a_tunnel_a_replay_does_not_keep_newer_bundles_away(
    begin: Begin, replayed: Callable[[], Answer]
) -> None:
    replayer = ToldChannel("replayer", [signed(fresh(7))])
    mirror = ToldChannel("mirror", [ChannelError(Verdict.UNREACHABLE)], tier=2, delay=1)
    scene = begin(replayer, mirror)
    await scene.until(Discovered)
    replayer.answers, mirror.answers = [replayed()], [signed(fresh(8))]
    assert (await scene.until(Discovered, 2))[-1].version == 8


async def test_a_replay_before_the_new_bundle_of_the_same_source_is_passed_over(
    begin: Begin,
) -> None:
    """A forged answer over UDP comes before the right one, and also verifies."""
    source = ToldChannel("one", [signed(fresh(7))])
    scene = begin(source)
    await scene.until(Discovered)
    source.answers = [signed(fresh(7)), signed(fresh(8))]
    assert (await scene.until(Discovered, 2))[-1].version == 8


async def test_while_tunnels_are_up_a_replay_is_not_believed_every_time(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", iter([0.9, 0.9, 0.1, *[0.9] * 99]).__next__)
    replayer = ToldChannel("replayer", [signed(fresh(7))])
    mirror = ToldChannel("mirror", [signed(fresh(8))], tier=2)
    scene = begin(replayer, mirror, up=lambda: True, timings=OFTEN)
    found = await scene.until(Discovered, 2)
    assert [event.version for event in found] == [7, 8]
    assert len(replayer.asked) == 4
