"""Discovery with channels that are told what to answer: races, memory, what is remembered."""

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from circumvent.api import Channel, ChannelError, Cost, Dialer, Fetch, Verdict
from circumvent.discovery import discovery as room
from circumvent.discovery import hunt as race
from circumvent.discovery.discovery import Dialers, Discovery, DiscoveryResources
from circumvent.discovery.origins import Origin, parse_origin
from circumvent.layers.tls.client import TlsClient
from circumvent.links.invite import Invite, format_invite
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.state.store import Store
from circumvent.status.events import Discovered, DiscoveryFailed, Event, Warned
from circumvent.wire.bundle import Bundle, Trust
from tests.unit.test_bundle import BUCKET_PUBLIC, KEYS, LINKS, signed

MIB = 1 << 20
QUICK = {
    (race, "NEXT_AFTER"): 0.05,
    (race, "NEXT_TIER_AFTER"): 0.15,
    (race, "FETCH_SECONDS"): 0.5,
    (race, "HUNT_SECONDS"): 1.0,
    (room, "RETRY"): (0.1, 0.2),
    (room, "LOOK_EVERY"): 0.02,
    (room, "DARK_AFTER"): 0.1,
}

Kind = TypeVar("Kind", bound=Event)
Answer = bytes | Exception | None  # None: never


def fresh(version: int = 7, **changes: object) -> Bundle:
    now = int(time.time())
    bundle = Bundle(version, now - 60, now + 86400, LINKS)
    return msgspec.structs.replace(bundle, **changes)


@dataclass
class Told(Channel):
    """Answers as it is told; ``log`` keeps when it was asked."""

    name: str
    answers: list[Answer] = field(default_factory=list)
    tier: int = 0
    delay: float = 0.0
    watch: float = 0.0
    size: int = 1000

    def __post_init__(self) -> None:
        self.schemes = (self.name,)
        self.cost = Cost(dial=self.size, stream=0)
        self.asked: list[float] = []
        self.dialers: list[Dialer] = []
        self.running = 0

    def check(self, source: str) -> None:
        pass

    async def fetch(self, fetch: Fetch) -> AsyncGenerator[bytes, None]:
        self.asked.append(time.monotonic())
        self.dialers.append(fetch.dialer)
        self.running += 1
        try:
            await asyncio.sleep(self.delay)
            for answer in self.answers:
                if answer is None:
                    await asyncio.Event().wait()
                elif isinstance(answer, Exception):
                    raise answer
                else:
                    yield answer
        finally:
            self.running -= 1


@dataclass
class Scene:
    """A discovery at work, and what came of it."""

    discovery: Discovery
    store: Store
    events: list[Event]
    offers: list[Sequence[str]]

    async def until(self, kind: type[Kind], count: int = 1) -> list[Kind]:
        await eventually(lambda: len(self.all(kind)) >= count)
        return self.all(kind)

    def all(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]


async def eventually(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for (module, name), value in QUICK.items():
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def pass_days(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the wall clock forward; timers go on as they are."""
    real = time.time

    def forward(days: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + days * 86400)

    return forward


@pytest.fixture
def begin(tmp_path: Path) -> Iterable[Callable[..., Scene]]:
    stores: list[Store] = []
    tasks: list[asyncio.Task[None]] = []

    def start(
        *channels: Told,
        origin: Origin | None = None,
        memory: Memory | None = None,
        up: Callable[[], bool] = lambda: False,
        tunnels: Dialer | None = None,
    ) -> Scene:
        store = Store(tmp_path / "state.db")
        stores.append(store)
        straight = NetDialer(TlsClient())
        events: list[Event] = []
        offers: list[Sequence[str]] = []
        equipment = DiscoveryResources(
            {channel.name: channel for channel in channels},
            Dialers(lambda _: straight, tunnels or straight, up),
            memory or Memory(16 * MIB),
            store,
        )
        chosen = origin or invited(*channels)
        discovery = Discovery([chosen], equipment, events.append, offers.append)
        tasks.append(asyncio.ensure_future(discovery.run()))
        return Scene(discovery, store, events, offers)

    yield start
    for task in tasks:
        task.cancel()
    for store in stores:
        store.close()


def invited(*channels: Told, trust: Trust | None = None) -> Origin:
    sources = tuple(f"{channel.name}:here" for channel in channels)
    return parse_origin(format_invite(Invite(trust or Trust((KEYS[0],)), sources)))


Begin = Callable[..., Scene]
PassDays = Callable[[float], None]


async def test_what_verifies_is_offered(begin: Begin) -> None:
    scene = begin(Told("one", [signed(fresh())]))
    (found,) = await scene.until(Discovered)
    assert found == Discovered("one:here", 7, 2, found.ms)
    assert scene.offers == [(), LINKS]


async def test_a_forged_candidate_is_passed_over(begin: Begin) -> None:
    scene = begin(Told("one", [b"rubbish", signed(fresh(), 1), signed(fresh())]))
    await scene.until(Discovered)
    assert scene.offers[-1] == LINKS


async def test_one_good_channel_among_failing_ones_suffices(begin: Begin) -> None:
    bad = [
        Told("dead", [ChannelError(Verdict.UNREACHABLE)]),
        Told("broken", [ZeroDivisionError("secret")]),
        Told("silent", [None]),
        Told("forged", [signed(fresh(), 1)]),
    ]
    scene = begin(*bad, Told("good", [signed(fresh())], tier=2))
    await scene.until(Discovered)
    await eventually(lambda: "good:here" in str(scene.store.attempts.newest(10)))  # a moment later
    records = {attempt.server: attempt for attempt in scene.store.attempts.newest(10)}
    assert records["dead:here"].detail == "no server could be reached"
    assert records["broken:here"].detail == "plugin broken broke with ZeroDivisionError"
    assert records["forged:here"].detail == "nobody whom you trust has signed it"
    assert records["good:here"].outcome == "ok"


async def test_when_all_fail_one_message_says_what_was_tried_and_why(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "FETCH_SECONDS", 0.2)
    scene = begin(
        Told("dead", [ChannelError(Verdict.FORGED, "DNS answers")]), Told("silent", [None])
    )
    (failed,) = (await scene.until(DiscoveryFailed))[:1]
    assert set(failed.reasons) == {
        "dead:here: DNS answers were forged by the network",
        "silent:here: no complete answer came in time (0 s)",
    }
    assert "silent:here" in str(failed)


async def test_a_costly_channel_starts_only_when_the_cheap_ones_fail_or_are_slow(
    begin: Begin,
) -> None:
    cheap, costly = Told("cheap", [signed(fresh())], delay=0.05), Told("costly", tier=2)
    scene = begin(cheap, costly, up=lambda: True)
    await scene.until(Discovered)
    await asyncio.sleep(0.2)
    assert not costly.asked


async def test_a_slow_tier_is_not_waited_for_to_its_end(begin: Begin) -> None:
    slow, costly = Told("slow", [None]), Told("costly", [signed(fresh())], tier=2)
    scene = begin(slow, costly)
    await scene.until(Discovered)
    assert costly.asked[0] - slow.asked[0] < 0.4


async def test_a_failure_lets_the_next_source_start_at_once(begin: Begin) -> None:
    dead, costly = (
        Told("dead", [ChannelError(Verdict.BLOCKED)]),
        Told("costly", [signed(fresh())], tier=2),
    )
    scene = begin(dead, costly)
    await scene.until(Discovered)
    assert costly.asked[0] - dead.asked[0] < 0.1


async def test_who_runs_already_may_bring_a_newer_list(begin: Begin) -> None:
    first = Told("first", [signed(fresh(7))], delay=0.15)
    second = Told("second", [signed(fresh(9))], delay=0.25)
    older = Told("older", [signed(fresh(5))], delay=0.25)
    scene = begin(first, second, older)
    await eventually(lambda: any(event.version == 9 for event in scene.all(Discovered)))
    await eventually(lambda: not older.running)
    versions = [event.version for event in scene.all(Discovered)]
    assert versions == sorted(versions)
    assert scene.offers[-1] == LINKS


async def test_costly_channels_wait_for_each_others_memory(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "HUNT_SECONDS", 0.4)
    channels = [Told(name, [None], size=4 * MIB) for name in ("one", "two", "three")]
    scene = begin(*channels)
    await asyncio.sleep(0.2)
    assert sum(channel.running for channel in channels) == 1
    account = scene.store  # the record of its peak comes with the attempt
    await scene.until(DiscoveryFailed)
    assert max(attempt.peak for attempt in account.attempts.newest(9)) <= 8 * MIB


async def test_the_next_start_knows_the_servers_at_once(begin: Begin) -> None:
    channel = Told("one", [signed(fresh())])
    await begin(channel).until(Discovered)
    later = Told("one", [None])
    scene = begin(later)
    await asyncio.sleep(0.05)
    assert scene.offers == [LINKS]
    assert not later.asked


async def test_a_replayed_old_list_is_refused_also_after_a_restart(
    begin: Begin, pass_days: PassDays
) -> None:
    await begin(Told("one", [signed(fresh(9))])).until(Discovered)
    pass_days(2)
    scene = begin(Told("one", [signed(fresh(8))]))
    (failed,) = (await scene.until(DiscoveryFailed))[:1]
    assert "a newer one was seen before" in str(failed)


async def test_new_keys_replace_old_ones_for_good(begin: Begin, pass_days: PassDays) -> None:
    rotated = fresh(2, next_trust=Trust((KEYS[1],)))
    await begin(Told("one", [signed(rotated, 0, 1)])).until(Discovered)
    pass_days(2)
    scene = begin(Told("one", [signed(fresh(3), 0), signed(fresh(4), 1)]))
    (found,) = await scene.until(Discovered)
    assert found.version == 4


async def test_a_retired_key_is_worth_nothing_to_who_still_runs(begin: Begin) -> None:
    rotating = Told("rotating", [signed(fresh(8, next_trust=Trust((KEYS[1],))), 0, 1)])
    retired = Told("retired", [signed(fresh(9), 0)], delay=0.3)
    scene = begin(rotating, retired)
    await scene.until(Discovered)
    await eventually(lambda: bool(retired.asked) and not retired.running)
    assert [event.version for event in scene.all(Discovered)] == [8]


async def test_what_cannot_be_read_any_more_is_asked_anew(begin: Begin, tmp_path: Path) -> None:
    channel = Told("one", [signed(fresh())])
    await begin(channel).until(Discovered)
    with closing(sqlite3.connect(tmp_path / "state.db")) as database, database:
        database.execute("UPDATE origins SET bundle = ?, version = 0", (b'{"later": "version"}',))
    assert await begin(Told("one", [signed(fresh(9))])).until(Discovered)


async def test_whoever_has_no_turn_is_named_too(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "HUNT_SECONDS", 0.3)
    channels = [Told(f"silent{number}", [None]) for number in range(race.AT_ONCE + 2)]
    (failed,) = (await begin(*channels).until(DiscoveryFailed))[:1]
    assert len(failed.reasons) == len(channels)
    assert any("no time left to ask" in reason for reason in failed.reasons)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are refreshed all the time."""
    monkeypatch.setattr(room, "SOONEST", 0.05)
    monkeypatch.setattr(room, "LATEST", 0.05)


@pytest.mark.usefixtures("often")
async def test_when_nothing_is_newer_mostly_nobody_else_is_asked(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "THOROUGH_SHARE", 0.0)
    one, costly = Told("one", [signed(fresh())]), Told("costly", tier=2)
    scene = begin(one, costly, up=lambda: True)
    await scene.until(Discovered)
    one.answers = [ChannelError(Verdict.UNCHANGED)]
    await eventually(lambda: len(one.asked) > 3)
    assert not costly.asked


REPLAYED: list[Answer] = [
    ChannelError(Verdict.UNCHANGED),
    signed(fresh(7)),
    signed(fresh(6)),
    signed(fresh(9), bucket=BUCKET_PUBLIC),
]
REPLAYS = ["unchanged", "equal", "older", "for another bucket"]


@pytest.mark.parametrize("replayed", REPLAYED, ids=REPLAYS)
async def test_in_the_dark_who_replays_keeps_nothing_newer_away(
    begin: Begin, replayed: Answer
) -> None:
    replayer = Told("replayer", [signed(fresh(7))])
    mirror = Told("mirror", [ChannelError(Verdict.UNREACHABLE)], tier=2, delay=0.05)
    scene = begin(replayer, mirror)
    await scene.until(Discovered)
    replayer.answers, mirror.answers = [replayed], [signed(fresh(8))]
    assert (await scene.until(Discovered, 2))[-1].version == 8


async def test_nor_does_who_replays_to_the_same_source(begin: Begin) -> None:
    """A forged answer over UDP comes before the right one, and also verifies."""
    source = Told("one", [signed(fresh(7))])
    scene = begin(source)
    await scene.until(Discovered)
    source.answers = [signed(fresh(7)), signed(fresh(8))]
    assert (await scene.until(Discovered, 2))[-1].version == 8


@pytest.mark.usefixtures("often")
async def test_while_tunnels_are_up_who_replays_is_not_believed_every_time(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", iter([0.9, 0.9, 0.1, *[0.9] * 99]).__next__)
    replayer = Told("replayer", [signed(fresh(7))])
    mirror = Told("mirror", [signed(fresh(8))], tier=2)
    found = await begin(replayer, mirror, up=lambda: True).until(Discovered, 2)
    assert [event.version for event in found] == [7, 8]
    assert len(replayer.asked) == 4


async def test_in_the_dark_nothing_new_is_asked_for_less_and_less(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "RETRY", (0.05, 10.0))
    channel = Told("one", [signed(fresh(7))])
    await begin(channel).until(Discovered)
    await eventually(lambda: len(channel.asked) == 6)
    gaps = [later - earlier for earlier, later in pairwise(channel.asked)]
    assert gaps[-1] > 2 * gaps[1]


async def test_who_floods_keeps_nobody_from_his_turn(begin: Begin) -> None:
    class Flood(Told):
        async def fetch(self, _: Fetch) -> AsyncGenerator[bytes, None]:
            while True:
                yield b"rubbish" * 1000

    await begin(Flood("flood"), Told("good", [signed(fresh())], tier=2)).until(Discovered)


async def test_those_that_hang_keep_nobody_from_his_turn(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "NEXT_AFTER", 0.01)
    monkeypatch.setattr(race, "SLOW_AFTER", 0.1)
    monkeypatch.setattr(race, "FETCH_SECONDS", 60.0)
    hanging = [Told(f"silent{number}", [None]) for number in range(2 * race.AT_ONCE)]
    scene = begin(*hanging, Told("good", [signed(fresh())], tier=2))
    await scene.until(Discovered)
    assert all(channel.running for channel in hanging)


async def test_sources_can_move(begin: Begin, pass_days: PassDays) -> None:
    old = Told("old", [signed(fresh(2, sources=("new:here",)))])
    new = Told("new")
    scene = begin(old, new, origin=invited(old))
    await scene.until(Discovered)
    assert not new.asked
    pass_days(2)
    new.answers = [signed(fresh(3))]
    await scene.until(Discovered, 2)
    assert new.asked


async def test_a_subscription_goes_on_when_the_clock_was_set_back(
    begin: Begin, pass_days: PassDays
) -> None:
    origin = parse_origin("sub+https://provider.test/list")
    lists = Told("sub+https", [b"ss://one@192.0.2.1:1"])
    await begin(lists, origin=origin).until(Discovered)
    lists.answers = [b"ss://two@192.0.2.1:2"]
    pass_days(-365)
    scene = begin(lists, origin=origin)
    await scene.until(Discovered)
    assert scene.offers[-1] == ("ss://two@192.0.2.1:2",)
    again = begin(Told("sub+https", [None]), origin=origin)
    await eventually(lambda: bool(again.offers))
    assert again.offers[0] == ("ss://two@192.0.2.1:2",)


async def test_a_clock_that_is_behind_is_told(begin: Begin) -> None:
    now = int(time.time())
    scene = begin(Told("one", [signed(Bundle(7, now + 7200, now + 86400, LINKS))]))
    (warned,) = await scene.until(Warned)
    assert "120 minutes behind" in str(warned)
    assert scene.offers[-1] == LINKS


async def test_while_tunnels_are_up_nothing_is_seen_outside(begin: Begin) -> None:
    inside = NetDialer(TlsClient())
    channel = Told("one", [signed(fresh())])
    await begin(channel, up=lambda: True, tunnels=inside).until(Discovered)
    assert channel.dialers == [inside]


async def test_in_the_dark_the_sources_are_asked_again(begin: Begin) -> None:
    channel = Told("one", [signed(fresh())])
    await begin(channel).until(Discovered)
    await eventually(lambda: len(channel.asked) > 1)


async def test_what_costs_nothing_is_watched(begin: Begin) -> None:
    channel = Told("one", [signed(fresh(7))], watch=0.05)
    scene = begin(channel, up=lambda: True)
    await scene.until(Discovered)
    channel.answers = [signed(fresh(8))]
    await scene.until(Discovered, 2)


async def test_an_unknown_kind_of_source_is_told_once(begin: Begin) -> None:
    one = Told("one", [ChannelError(Verdict.NOT_FOUND)])
    origin = replace(invited(one), first_sources=("carrot:here", "one:here"))
    scene = begin(one, origin=origin)
    await scene.until(DiscoveryFailed, 2)
    assert list(map(str, scene.all(Warned))) == [
        "warning: a source is left out: no channel reads carrot: sources"
    ]
