"""Discovery: what it offers, tells and remembers, and when it asks again."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from circumvent.api import ChannelError, Verdict
from circumvent.discovery.origins import parse_origin
from circumvent.discovery.timings import DiscoveryTimings
from circumvent.layers.tls.client import TlsClient
from circumvent.net.dialer import NetDialer
from circumvent.status.events import Discovered, DiscoveryFailed, Hunting, Warned
from circumvent.tunnels.timings import BackoffTimings
from circumvent.wire.bundle import Bundle, Trust
from tests.unit.discovery_scene import (
    DAY,
    NOW,
    OFTEN,
    Begin,
    ToldChannel,
    begin_fixture,  # noqa: F401
    fresh,
    invited,
    pass_days,
    valid_after,
)
from tests.unit.test_bundle import KEYS, LINKS, signed
from tests.virtual.loop import until

pytestmark = pytest.mark.virtual_time


async def test_the_servers_of_a_verified_bundle_are_offered(begin: Begin) -> None:
    scene = begin(ToldChannel("one", [signed(fresh())], delay=2.0))
    (found,) = await scene.until(Discovered)
    assert found == Discovered("one:here", 7, 2, found.ms)
    assert found.ms == pytest.approx(2000.0, abs=1.0)
    assert scene.all(Hunting) == [Hunting(1)]
    assert scene.offers == [(), LINKS]


async def test_servers_of_unknown_kinds_are_counted_and_the_others_are_offered(
    begin: Begin,
) -> None:
    links = (*LINKS, "later://x@192.0.2.1:1", "later://y@192.0.2.1:1")
    scene = begin(ToldChannel("one", [signed(fresh(entries=links))]))
    (warned,) = await scene.until(Warned)
    assert "2 of 4 links cannot be used: 2 x later:// is not supported" in str(warned)
    assert scene.offers[-1] == LINKS


async def test_one_good_channel_among_failing_ones_is_enough(begin: Begin) -> None:
    bad = [
        ToldChannel("dead", [ChannelError(Verdict.UNREACHABLE)]),
        ToldChannel("broken", [ZeroDivisionError("secret")]),
        ToldChannel("silent", [None]),
        ToldChannel("forged", [signed(fresh(), 1)]),
    ]
    scene = begin(*bad, ToldChannel("good", [signed(fresh())], tier=2))
    await scene.until(Discovered)
    await until(lambda: "good:here" in str(scene.store.attempts.newest(10)))  # a moment later
    records = {attempt.server: attempt for attempt in scene.store.attempts.newest(10)}
    assert records["dead:here"].detail == "no server could be reached"
    assert records["broken:here"].detail == "plugin broken broke with ZeroDivisionError"
    assert records["forged:here"].detail == "nobody whom you trust has signed it"
    assert records["good:here"].outcome == "ok"


async def test_when_all_fail_one_message_says_what_was_tried_and_why(begin: Begin) -> None:
    scene = begin(
        ToldChannel("dead", [ChannelError(Verdict.FORGED, "DNS answers")]),
        ToldChannel("silent", [None]),
    )
    (failed,) = await scene.until(DiscoveryFailed)
    assert set(failed.reasons) == {
        "dead:here: DNS answers were forged by the network",
        "silent:here: no complete answer came in time (20 s)",
    }
    assert "silent:here" in str(failed)


async def test_the_next_start_knows_the_servers_at_once(begin: Begin) -> None:
    await begin(ToldChannel("one", [signed(fresh())])).until(Discovered)
    later = ToldChannel("one", [None])
    scene = begin(later, up=lambda: True)
    await until(lambda: scene.offers)
    assert scene.offers == [LINKS]
    assert not later.asked


async def test_new_keys_replace_old_ones_for_good(begin: Begin) -> None:
    rotated = fresh(2, next_trust=Trust((KEYS[1],)))
    await begin(ToldChannel("one", [signed(rotated, 0, 1)])).until(Discovered)
    pass_days(2)
    retired, valid = signed(valid_after(2, 3), 0), signed(valid_after(2, 4), 1)
    (found,) = await begin(ToldChannel("one", [retired, valid])).until(Discovered)
    assert found.version == 4


async def test_a_retired_key_is_refused_in_the_same_hunt(begin: Begin) -> None:
    rotated = signed(fresh(8, next_trust=Trust((KEYS[1],))), 0, 1)
    rotating = ToldChannel("rotating", [rotated], delay=1)
    retired = ToldChannel("retired", [signed(fresh(9), 0)], delay=2)
    scene = begin(rotating, retired)
    await until(lambda: retired.asked and not retired.running)
    assert [event.version for event in scene.all(Discovered)] == [8]


async def test_a_remembered_bundle_that_cannot_be_read_is_fetched_again(
    begin: Begin, tmp_path: Path
) -> None:
    await begin(ToldChannel("one", [signed(fresh())])).until(Discovered)
    with closing(sqlite3.connect(tmp_path / "state.db")) as database, database:
        database.execute("UPDATE origins SET bundle = ?, version = 0", (b'{"later": "version"}',))
    assert await begin(ToldChannel("one", [signed(fresh(9))])).until(Discovered)


async def test_sources_can_move(begin: Begin) -> None:
    old = ToldChannel("old", [signed(fresh(2, sources=("new:here",)))])
    new = ToldChannel("new")
    scene = begin(old, new, origin=invited(old))
    await scene.until(Discovered)
    assert not new.asked
    pass_days(2)
    new.answers = [signed(valid_after(2, 3))]
    await scene.until(Discovered, 2)
    assert new.asked


async def test_a_subscription_goes_on_when_the_clock_was_set_back(begin: Begin) -> None:
    origin = parse_origin("sub+https://provider.test/list")
    lists = ToldChannel("sub+https", [b"ss://one@192.0.2.1:1"])
    await begin(lists, origin=origin).until(Discovered)
    lists.answers = [b"ss://two@192.0.2.1:2"]
    pass_days(-365)
    scene = begin(lists, origin=origin)
    await scene.until(Discovered)
    assert scene.offers[-1] == ("ss://two@192.0.2.1:2",)
    again = begin(ToldChannel("sub+https", [None]), origin=origin)
    await until(lambda: again.offers)
    assert again.offers[0] == ("ss://two@192.0.2.1:2",)


def list_of(count: int) -> bytes:
    return "\n".join(f"ss://one@192.0.2.1:{port}" for port in range(1, count + 1)).encode()


async def test_of_a_large_list_others_follow_when_those_that_race_have_all_failed(
    begin: Begin,
) -> None:
    origin = parse_origin("sub+https://provider.test/list")
    failed: set[str] = set()
    scene = begin(ToldChannel("sub+https", [list_of(600)]), origin=origin, wants_more=lambda: True)
    (found,) = await scene.until(Discovered)
    assert found.entries == 600
    await until(lambda: len(failed.union(*scene.offers)) == 600)
    assert max(map(len, scene.offers)) == 256
    again = begin(ToldChannel("sub+https", [None]), origin=origin)
    await until(lambda: again.offers)  # the next start knows it, and nothing has failed yet
    assert [len(each) for each in again.offers] == [256]


async def test_a_list_that_is_cut_never_replaces_a_longer_one(begin: Begin) -> None:
    origin = parse_origin("sub+https://provider.test/list")
    cut = ChannelError(Verdict.BLOCKED, "the answer was cut")
    lists = ToldChannel("sub+https", [list_of(3), cut])
    scene = begin(lists, origin=origin, timings=OFTEN)
    assert (await scene.until(Discovered))[0].entries == 3
    lists.answers = [list_of(2), cut]
    await scene.until(DiscoveryFailed)
    lists.answers = [list_of(1)]
    found = await scene.until(Discovered, 2)
    assert [each.entries for each in found] == [3, 1]


async def test_a_clock_that_is_behind_is_told(begin: Begin) -> None:
    bundle = Bundle(7, NOW + 7200, NOW + DAY, LINKS)
    scene = begin(ToldChannel("one", [signed(bundle)]))
    (warned,) = await scene.until(Warned)
    assert "120 minutes behind" in str(warned)
    assert scene.offers[-1] == LINKS


async def test_while_tunnels_are_up_sources_are_asked_through_them(begin: Begin) -> None:
    inside = NetDialer(TlsClient())
    channel = ToldChannel("one", [signed(fresh())])
    await begin(channel, up=lambda: True, tunnels=inside).until(Discovered)
    assert channel.dialers == [inside]


async def test_without_a_tunnel_the_sources_are_asked_again_but_ever_less_often(
    begin: Begin,
) -> None:
    channel = ToldChannel("one", [signed(fresh(7))])
    await begin(channel).until(Discovered)
    await until(lambda: len(channel.asked) == 6)
    gaps = [later - earlier for earlier, later in pairwise(channel.asked)]
    assert gaps[0] == pytest.approx(15, abs=2)
    assert all(later > 1.1 * earlier for earlier, later in pairwise(gaps[1:]))


async def test_days_of_failures_do_not_end_discovery(begin: Begin) -> None:
    channel = ToldChannel("one", [ChannelError(Verdict.UNREACHABLE)])
    timings = DiscoveryTimings(retry=BackoffTimings(pauses=(1.0,), jitter=(1.0, 1.0)))
    begin(channel, timings=timings)
    await asyncio.sleep(1200)
    assert len(channel.asked) > 1100  # the last pause is repeated


async def test_a_source_that_costs_nothing_is_watched(begin: Begin) -> None:
    channel = ToldChannel("one", [signed(fresh(7))], watch=5.0)
    scene = begin(channel, up=lambda: True)
    await scene.until(Discovered)
    channel.answers = [signed(fresh(8))]
    await scene.until(Discovered, 2)
    assert channel.asked[-1] - channel.asked[0] <= 10


async def test_an_unknown_kind_of_source_is_told_once(begin: Begin) -> None:
    one = ToldChannel("one", [ChannelError(Verdict.NOT_FOUND)])
    origin = replace(invited(one), first_sources=("carrot:here", "one:here"))
    scene = begin(one, origin=origin)
    await scene.until(DiscoveryFailed, 2)
    assert list(map(str, scene.all(Warned))) == [
        "warning: a source is left out: no channel reads carrot: sources"
    ]
