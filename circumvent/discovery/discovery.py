"""Discovery: asks the sources of every origin when servers are missing or about to expire."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from circumvent.api import Fetch, Privacy, Transport
from circumvent.discovery.hunt import DiscoverySource, Find, fetch, fetch_list, hunt
from circumvent.discovery.origins import Origin, keep, recall
from circumvent.discovery.resources import DiscoveryResources
from circumvent.discovery.sources import discovery_account, lists_account, usable_sources
from circumvent.errors import LinkError, UnsupportedError
from circumvent.state.attempts import attempt_record
from circumvent.status.events import Discovered, DiscoveryFailed, Events, Hunting, Warned
from circumvent.tunnels.backoff import Backoff
from circumvent.tunnels.candidate import Candidate, parse_candidate
from circumvent.tunnels.refused import describe_refused
from circumvent.wire.bundle import Bundle

if TYPE_CHECKING:
    from circumvent.discovery.window import Window
    from circumvent.wire.server_list import ServerList

# While tunnels are up, this share of the refreshes asks all sources, whatever the first ones
# answer: else a source that replays an old bundle would keep newer ones away.
THOROUGH_SHARE = 1 / 3


class Discovery:
    """Owns the origins; ``offer`` is given all servers found whenever they change.

    Of a large list they are some hundreds. ``offer`` is told how many of each privacy class hide
    too little for that, and others follow when ``wants_more``.
    """

    def __init__(
        self,
        resources: DiscoveryResources,
        events: Events,
        offer: Callable[[Sequence[Candidate], Counter[Privacy]], None],
    ) -> None:
        self.wants_more: Callable[[], bool] = lambda: False
        self._channels = resources.channels
        self._transports = resources.transports
        self._dialers = resources.dialers
        self._clock = resources.clock
        self._timings = resources.timings
        self._failures = Backoff(resources.timings.retry)  # by the wall clock, as refreshes are
        self._attempts = resources.store.attempts
        self._scores = resources.store.scores
        self._table = resources.store.origins
        self._account = discovery_account(resources.memory, resources.channels)
        self._lists = lists_account(resources.memory)
        self._floor = resources.floor
        self._events = events
        self._offer = offer
        self._origins: dict[str, Origin] = {}
        self._servers: dict[str, Sequence[Candidate]] = {}
        self._windows: dict[str, Window] = {}
        self._hunting = 0
        self._told: set[str] = set()

    @property
    def is_hunting(self) -> bool:
        """Whether servers may be found any moment."""
        return self._hunting > 0

    async def run(self, origins: Iterable[Origin]) -> None:
        """Hunt for the servers of these whenever it is time; ends only by cancellation."""
        for origin in origins:
            self._use(recall(self._table, origin))
        if not self._origins:
            await asyncio.Event().wait()
        self._offer_all()
        async with asyncio.TaskGroup() as tasks:
            for origin_id in self._origins:
                tasks.create_task(self._keep(origin_id))
                tasks.create_task(self._watch(origin_id))
            tasks.create_task(self._turn_windows())

    def _use(self, origin: Origin) -> None:
        """Go by what the origin says now; its links are parsed here, once for each bundle."""
        if isinstance(origin.bundle, Bundle):
            self._servers[origin.id] = self._parse(origin.bundle.entries)
        elif origin.bundle is not None:
            origin = self._hold(origin, origin.bundle)
        self._origins[origin.id] = origin

    def _hold(self, origin: Origin, servers: ServerList) -> Origin:
        """Keep a list in place of the old one, as much of it as memory has room for."""
        from circumvent.discovery.window import Window  # noqa: PLC0415 - few need it

        old = self._origins.get(origin.id)
        if old is not None and old.bundle is not None and not isinstance(old.bundle, Bundle):
            self._lists.discharge(old.bundle.size)
        while not self._lists.try_charge(servers.size):
            servers = servers.cut()
        window = Window(servers, self._floor, self._scores.worked())
        self._windows[origin.id] = window
        self._servers[origin.id] = self._parse(window.turn())
        return replace(origin, bundle=servers)

    def _parse(self, links: Sequence[str]) -> list[Candidate]:
        servers, refused = _parse_links(links, self._transports)
        if told := describe_refused(refused, len(links)):
            self._events(Warned(told))
        return servers

    async def _turn_windows(self) -> None:
        """When all that was offered of large lists has failed, offer what comes next in them."""
        while True:
            await asyncio.sleep(self._timings.turn_every)
            large = [key for key, window in self._windows.items() if not window.is_all]
            if large and self.wants_more():
                for origin_id in large:
                    self._servers[origin_id] = self._parse(self._windows[origin_id].turn())
                self._offer_all()

    async def _keep(self, origin_id: str) -> None:
        while True:
            if self._failures.failures(origin_id) or not self._is_missing(origin_id):
                await self._until_due(origin_id)
            found = await self._hunt(origin_id, self._sources(self._origins[origin_id]))
            if found and not self._is_missing(origin_id):
                self._failures.worked(origin_id)
            else:
                self._failures.failed(origin_id, self._clock.wall())

    async def _watch(self, origin_id: str) -> None:
        """Look often at sources that cost nothing: a bundle may be put into a directory."""
        while True:
            watched = [s for s in self._sources(self._origins[origin_id]) if s.channel.watch]
            if not watched:
                return
            await asyncio.sleep(min(source.channel.watch for source in watched))
            for source in watched:
                await self._ask(origin_id, source)

    def _is_missing(self, origin_id: str) -> bool:
        return self._origins[origin_id].is_missing(self._clock.wall())

    async def _until_due(self, origin_id: str) -> None:
        """Wait for the next refresh; less after a failure, or while no tunnel is up."""
        clock, timings = self._clock, self._timings
        due = self._failures.ready_at(origin_id) or self._refresh_at(self._origins[origin_id])
        longest = timings.dark_after[: self._failures.failures(origin_id) + 1][-1]
        dark_since = clock.now()
        while clock.wall() < due:
            await asyncio.sleep(timings.look_every)
            if self._dialers.is_up():
                dark_since = clock.now()
            elif clock.now() - dark_since > longest:
                return

    def _refresh_at(self, origin: Origin) -> float:
        """When its bundle is replaced by a newer one, in unix time; at once if it has none."""
        if origin.bundle is None:
            return 0.0
        now, timings = self._clock.wall(), self._timings
        share = random.uniform(*timings.refresh_share)  # noqa: S311 - no secret
        due = origin.fetched + share * (origin.bundle.expires - origin.fetched)
        jitter = random.uniform(*timings.jitter)  # noqa: S311 - as above
        least, most = timings.refresh
        return min(max(due, now + least * jitter), now + most * jitter)

    async def _hunt(self, origin_id: str, sources: Sequence[DiscoverySource]) -> bool:
        """Ask the sources; whether the hunt brought what was looked for.

        While no tunnel is up that is a newer bundle: the known servers do not help. Else any
        source may say that nothing is newer, but it is not believed every time.
        """
        self._events(Hunting(len(sources)))
        self._hunting += 1
        known = self._version(origin_id)
        is_urgent = self._is_missing(origin_id) or not self._dialers.is_up()
        is_thorough = is_urgent or random.random() < THOROUGH_SHARE  # noqa: S311 - no secret
        finds: list[Find] = []

        def settles(find: Find) -> bool:
            return self._version(origin_id) > known or (find.is_good and not is_thorough)

        try:
            ask = partial(self._ask, origin_id)
            async for find in hunt(sources, ask, settles, self._timings.hunt):
                self._record(find)
                finds.append(find)
        finally:
            self._hunting -= 1
        is_good = any(find.is_good for find in finds)
        if not is_good:
            self._events(DiscoveryFailed(tuple(map(_describe, finds))))
        return self._version(origin_id) > known or (is_good and not is_urgent)

    def _version(self, origin_id: str) -> int:
        return self._origins[origin_id].version

    async def _ask(self, origin_id: str, source: DiscoverySource) -> Find:
        origin = self._origins[origin_id]
        # While the origin has no valid entries, "nothing newer" would be no answer.
        notes = {} if self._is_missing(origin_id) else self._table.notes(origin_id, source.url)
        before = dict(notes)
        dialer = self._dialers.choose(origin.typed_host)
        request = Fetch(source.url, dialer, self._account, notes)
        ask = self._ask_authority if origin.trust is not None else self._ask_subscription
        find, news = await ask(origin_id, source, request)
        for bundle in news:
            self._events(Discovered(source.label, bundle.version, bundle.count, find.ms))
        if notes != before:
            self._table.note(origin_id, source.url, notes)
        return find

    async def _ask_authority(
        self, origin_id: str, source: DiscoverySource, request: Fetch
    ) -> tuple[Find, Sequence[Bundle]]:
        """The find, and the bundles that were newer than the known one."""
        news: list[Bundle] = []

        def judge(data: bytes) -> Bundle:
            # Another source may have brought new keys meanwhile.
            bundle = self._origins[origin_id].examine(data, self._clock.wall())
            if self._learn(origin_id, bundle):
                news.append(bundle)
            return bundle

        known, seconds = self._version(origin_id), self._timings.hunt.fetch
        return await fetch(source, request, judge, known, seconds), news

    async def _ask_subscription(
        self, origin_id: str, source: DiscoverySource, request: Fetch
    ) -> tuple[Find, Sequence[ServerList]]:
        """As ``_ask_authority``; whatever comes is newer."""
        from circumvent.discovery.list_reading import ListReading  # noqa: PLC0415 - few need it

        seconds = self._timings.hunt.fetch_list
        origin, now = self._origins[origin_id], self._clock.wall()
        with closing(ListReading(origin, now, self._transports, self._lists)) as reading:
            find = await fetch_list(source, request, reading, seconds)
        if find.bundle is None or isinstance(find.bundle, Bundle):
            return find, ()
        if told := reading.complaint():
            self._events(Warned(told))
        self._learn(origin_id, find.bundle)
        return find, (find.bundle,)

    def _record(self, find: Find) -> None:
        started = self._clock.now() - find.ms / 1000
        peak = self._account.high_water
        record = attempt_record(
            "fetch", find.source.label, started, peak, find.error, clock=self._clock
        )
        self._attempts.record(record)

    def _learn(self, origin_id: str, bundle: Bundle | ServerList) -> bool:
        """Use a bundle if it is newer than the known one; whether it is."""
        if bundle.version <= self._version(origin_id):
            return False
        self._use(self._origins[origin_id].learn(bundle, self._clock.wall()))
        keep(self._table, self._origins[origin_id])
        behind = bundle.clock_behind(self._clock.wall())
        if behind > 0:
            text = f"the clock of this machine is {behind / 60:.0f} minutes behind; set it"
            self._events(Warned(text))
        self._offer_all()
        return True

    def _offer_all(self) -> None:
        now = self._clock.wall()
        valid = [each for each in self._origins.values() if not each.is_missing(now)]
        classes = Counter[int]()
        for each in valid:
            if each.bundle is not None and not isinstance(each.bundle, Bundle):
                classes += each.bundle.classes()
        weaker = Counter({each: classes[each] for each in Privacy if each < self._floor})
        self._offer(tuple(chain.from_iterable(self._servers[each.id] for each in valid)), weaker)

    def _sources(self, origin: Origin) -> list[DiscoverySource]:
        sources, problems = usable_sources(origin.sources, self._channels)
        random.shuffle(sources)  # so that clients do not all ask the same source first
        for problem in set(problems) - self._told:
            self._told.add(problem)
            self._events(Warned(problem))
        return sources


def _parse_links(
    links: Iterable[str], transports: Mapping[str, Transport]
) -> tuple[list[Candidate], Counter[str]]:
    """The servers behind the links of a list, and why the others cannot be used."""
    servers: list[Candidate] = []
    refused: Counter[str] = Counter()
    for link in links:
        try:
            servers.append(parse_candidate(link, transports, is_learnt=True))
        except (LinkError, UnsupportedError) as error:
            refused[str(error)] += 1
    return servers, refused


def _describe(find: Find) -> str:
    return f"{find.source.label}: {find.error}"
