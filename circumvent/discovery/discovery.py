"""Keeps the servers of every origin known: hunts when some are missing or about to expire."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from circumvent.api import Channel, Dialer, Fetch
from circumvent.discovery.hunt import DiscoverySource, Find, fetch, hunt
from circumvent.discovery.origins import Origin, keep, recall
from circumvent.errors import CircumventError, LinkError
from circumvent.memory import Account, Memory
from circumvent.state.attempts import attempt_record
from circumvent.state.store import Store
from circumvent.status.events import Discovered, DiscoveryFailed, Events, Hunting, Warned
from circumvent.wire.bundle import Bundle

REFRESH_SHARE = (0.4, 0.7)  # of a bundle's life; drawn anew each time, so that no clock is seen
SOONEST, LATEST = 3600.0, 24 * 3600.0  # seconds until a refresh
RETRY = (10.0, 300.0)  # seconds after a hunt without success, doubled each time
RETRY_JITTER = (0.75, 1.25)
# Of the refreshes while tunnels are up, so many ask all sources, whatever the first ones say: else
# one that replays what is known would keep everything newer away.
THOROUGH_SHARE = 1 / 3
DARK_AFTER = 15.0  # seconds without any tunnel: what is known may be blocked by now
LOOK_EVERY = 1.0  # seconds; how late a change of the tunnels is noticed
ACCOUNT_SHARE = 1.5  # of the costliest channel: where memory is short, a second one waits
BUDGET_SHARE = 8  # an eighth of all memory may be used for fetches, where that is more
FETCH_BUFFERS = 64 * 1024  # what fetches may keep of the arena beside it


@dataclass(frozen=True, slots=True)
class Dialers:
    """How to get out: straight, or through tunnels while ``is_up``.

    ``straight`` gives the dialer for what others named, but for one address that the user typed.
    """

    straight: Callable[[str], Dialer]
    tunnels: Dialer
    is_up: Callable[[], bool]

    def choose(self, typed: str) -> Dialer:
        """Through the tunnels if there are any: then nothing of a hunt is seen outside."""
        return self.tunnels if self.is_up() else self.straight(typed)


@dataclass(frozen=True, slots=True)
class DiscoveryResources:
    """What hunts need; ``channels`` are keyed by the scheme of their sources."""

    channels: Mapping[str, Channel]
    ways: Dialers
    memory: Memory
    store: Store


class Discovery:
    """Owns the origins; ``offer`` is told all entries whenever they change."""

    def __init__(
        self,
        origins: Iterable[Origin],
        equipment: DiscoveryResources,
        events: Events,
        offer: Callable[[Sequence[str]], None],
    ) -> None:
        self._channels = equipment.channels
        self._ways = equipment.ways
        self._store = equipment.store
        self._account = discovery_account(equipment.memory, equipment.channels)
        self._events = events
        self._offer = offer
        self._origins = {origin.id: recall(self._store.origins, origin) for origin in origins}
        self._hunting = 0
        self._told: set[str] = set()

    @property
    def is_hunting(self) -> bool:
        """Whether servers may turn up any moment."""
        return self._hunting > 0

    async def run(self) -> None:
        """Hunt whenever it is time; ends only by cancellation."""
        if not self._origins:
            await asyncio.Event().wait()
        self._offer_all()
        async with asyncio.TaskGroup() as tasks:
            for origin_id in self._origins:
                tasks.create_task(self._keep(origin_id))
                tasks.create_task(self._watch(origin_id))

    async def _keep(self, origin_id: str) -> None:
        failures = 0
        while True:
            if failures or not self._is_missing(origin_id):
                await self._until_due(origin_id, failures)
            found = await self._hunt(origin_id, self._sources(self._origins[origin_id]))
            failures = 0 if found and not self._is_missing(origin_id) else failures + 1

    async def _watch(self, origin_id: str) -> None:
        """Look at what costs nothing to look at: a bundle may be dropped into a directory."""
        while True:
            watched = [s for s in self._sources(self._origins[origin_id]) if s.channel.watch]
            if not watched:
                return
            await asyncio.sleep(min(source.channel.watch for source in watched))
            for source in watched:
                await self._ask(origin_id, source)

    def _is_missing(self, origin_id: str) -> bool:
        return not self._origins[origin_id].entries(time.time())

    async def _until_due(self, origin_id: str, failures: int) -> None:
        """Wait for the next refresh; less when it failed, or when everything is dark."""
        refresh = time.time() + self._refresh_in(self._origins[origin_id], failures)
        dark_since = time.monotonic()
        patience = DARK_AFTER * 2.0**failures
        while time.time() < refresh:
            await asyncio.sleep(LOOK_EVERY)
            if self._ways.is_up():
                dark_since = time.monotonic()
            elif time.monotonic() - dark_since > min(patience, RETRY[1]):
                return

    def _refresh_in(self, origin: Origin, failures: int) -> float:
        jitter = random.uniform(*RETRY_JITTER)  # noqa: S311 - no secret
        if failures:
            return min(RETRY[0] * 2.0 ** (failures - 1), RETRY[1]) * jitter
        if origin.bundle is None:
            return 0.0
        share = random.uniform(*REFRESH_SHARE)  # noqa: S311 - as above
        due = origin.fetched + share * (origin.bundle.expires - origin.fetched)
        return min(max(due - time.time(), SOONEST * jitter), LATEST * jitter)

    async def _hunt(self, origin_id: str, sources: Sequence[DiscoverySource]) -> bool:
        """Whether it brought what was looked for.

        Without a tunnel that is something newer: what is known does not help. Else any source may
        say that nothing is, but not every time.
        """
        self._events(Hunting(len(sources)))
        self._hunting += 1
        known = self._version(origin_id)
        is_urgent = self._is_missing(origin_id) or not self._ways.is_up()
        is_thorough = is_urgent or random.random() < THOROUGH_SHARE  # noqa: S311 - no secret
        finds: list[Find] = []

        def settles(find: Find) -> bool:
            return self._version(origin_id) > known or (find.is_good and not is_thorough)

        try:
            ask = partial(self._ask, origin_id)
            async for find in hunt(sources, ask, settles):
                self._record(find)
                finds.append(find)
        finally:
            self._hunting -= 1
        is_good = any(find.is_good for find in finds)
        if not is_good:
            self._events(DiscoveryFailed(tuple(map(_describe, finds))))
        return self._version(origin_id) > known or (is_good and not is_urgent)

    def _version(self, origin_id: str) -> int:
        bundle = self._origins[origin_id].bundle
        return bundle.version if bundle else 0

    async def _ask(self, origin_id: str, source: DiscoverySource) -> Find:
        origin = self._origins[origin_id]
        # Without valid entries, "nothing newer" would be no answer.
        notes = (
            {} if self._is_missing(origin_id) else self._store.origins.notes(origin_id, source.url)
        )
        before = dict(notes)
        news: list[Bundle] = []

        def judge(data: bytes) -> Bundle:
            # By what is known now: meanwhile another source may have brought new keys.
            bundle = self._origins[origin_id].examine(data, time.time())
            if self._learn(origin_id, bundle):
                news.append(bundle)
            return bundle

        dialer = self._ways.choose(origin.typed_host)
        request = Fetch(source.url, dialer, self._account, notes)
        find = await fetch(source, request, judge, self._version(origin_id))
        for bundle in news:
            told = Discovered(source.label, bundle.version, len(bundle.entries), find.ms)
            self._events(told)
        if notes != before:
            self._store.origins.note(origin_id, source.url, notes)
        return find

    def _record(self, find: Find) -> None:
        started = time.monotonic() - find.ms / 1000
        peak = self._account.high_water
        record = attempt_record("fetch", find.source.label, started, peak, find.error)
        self._store.attempts.record(record)

    def _learn(self, origin_id: str, bundle: Bundle) -> bool:
        """Use a bundle if it is newer than what is known; whether it is."""
        if bundle.version <= self._version(origin_id):
            return False
        origin = self._origins[origin_id].learn(bundle, time.time())
        self._origins[origin_id] = origin
        keep(self._store.origins, origin)
        behind = bundle.clock_behind(time.time())
        if behind > 0:
            text = f"the clock of this machine is {behind / 60:.0f} minutes behind; set it"
            self._events(Warned(text))
        self._offer_all()
        return True

    def _offer_all(self) -> None:
        now = time.time()
        entries = (origin.entries(now) for origin in self._origins.values())
        self._offer(tuple(dict.fromkeys(chain.from_iterable(entries))))

    def _sources(self, origin: Origin) -> list[DiscoverySource]:
        sources, problems = usable_sources(origin.sources, self._channels)
        random.shuffle(sources)  # nobody's servers are everybody's first
        for problem in set(problems) - self._told:
            self._told.add(problem)
            self._events(Warned(problem))
        return sources


def discovery_account(memory: Memory, channels: Mapping[str, Channel]) -> Account:
    """The account of all fetches: its limit keeps channels from adding up."""
    costliest = max((channel.cost.dial for channel in channels.values()), default=0)
    share = max(int(ACCOUNT_SHARE * costliest), memory.budget // BUDGET_SHARE)
    return memory.account("discovery", limit=min(share + FETCH_BUFFERS, memory.budget))


def usable_sources(
    urls: Iterable[str], channels: Mapping[str, Channel]
) -> tuple[list[DiscoverySource], list[str]]:
    """The sources that some channel reads, and what is wrong with the others."""
    sources: list[DiscoverySource] = []
    problems: list[str] = []
    for url in urls:
        scheme = url.partition(":")[0].lower()
        try:
            channel = channels.get(scheme)
            if channel is None:
                raise LinkError(f"no channel reads {scheme[:16]}: sources")
            channel.check(url)
        except CircumventError as error:
            problems.append(f"a source is left out: {error}")
        else:
            sources.append(DiscoverySource(url, channel))
    return sources, problems


def _describe(find: Find) -> str:
    return f"{find.source.label}: {find.error}"
