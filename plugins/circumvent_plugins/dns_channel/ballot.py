"""Which manifest to believe first: every resolver has a vote.

No resolver is trusted: the votes decide only the order in which manifests are tried, and a
signature decides in the end. An answer over TLS counts more, because only the resolver itself can
forge it. Of the answers of one resolver the last counts: forged ones come first.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress

from circumvent.api import CircumventError, Verdict
from circumvent.tasks import dismiss
from circumvent.wire.dns_chunks import MANIFEST, Manifest, parse_manifest
from circumvent_plugins.dns_channel.asking import Net, ask
from circumvent_plugins.dns_channel.messages import DnsAnswer
from circumvent_plugins.dns_channel.report import Report
from circumvent_plugins.dns_channel.source import DnsResolver, DnsSource

SECURE_WEIGHT = 3
MAX_CANDIDATES = 4
KEPT = 4  # different answers of one resolver


class Ballot:
    """The manifests that resolvers give, while it is open, until ``ends`` (monotonic seconds)."""

    def __init__(self, source: DnsSource, net: Net, report: Report, ends: float) -> None:
        self._source = source
        self._net = net
        self._timings = net.timings
        self._report = report
        self._ends = ends
        self._given: dict[DnsResolver, deque[Manifest]] = {}
        self._asked = 0  # in votes
        self._first_at: float | None = None
        self._news = asyncio.Event()
        self._may_be_loud = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Ask the resolvers meanwhile."""
        self._polling = asyncio.ensure_future(self._poll_all())
        self._polling.add_done_callback(lambda _: self._news.set())
        try:
            yield
        finally:
            await dismiss((self._polling,))

    def voters(self, manifest: Manifest) -> Sequence[DnsResolver]:
        """The resolvers that gave it, those with TLS first."""
        voters = [who for who, given in self._given.items() if manifest in given]
        return sorted(voters, key=lambda who: not who.is_secure)

    async def candidates(self) -> AsyncGenerator[Manifest, None]:
        """Manifests, the most believable first; ends when every resolver has answered or failed."""
        tried: set[Manifest] = set()
        while len(tried) < MAX_CANDIDATES:
            await self._until_settled(tried)
            rest = self._ranked(tried)
            if not rest:
                return
            tried.add(rest[0])
            yield rest[0]
            self._may_be_loud.set()  # the last one was refused

    async def _until_settled(self, tried: set[Manifest]) -> None:
        while not (self._is_done() or self._is_settled(tried)):
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._next_look(tried) - time.monotonic()):
                    await self._news.wait()
        if self._polling is not None and self._polling.done():
            self._polling.result()  # raises what no resolver can cause

    def _next_look(self, tried: set[Manifest]) -> float:
        """When something is decided though nothing has come; monotonic seconds."""
        if self._first_at is None or not self._ranked(tried):
            return self._ends
        return self._first_at + self._timings.settle

    def _is_done(self) -> bool:
        is_over = time.monotonic() >= self._ends
        return is_over or self._polling is None or self._polling.done()

    def _is_settled(self, tried: set[Manifest]) -> bool:
        rest = self._ranked(tried)
        if not rest or self._first_at is None:
            return False
        if time.monotonic() >= self._first_at + self._timings.settle:
            return True
        best = self.voters(rest[0])
        return best[0].is_secure and 2 * sum(map(_weight, best)) > self._asked

    def _ranked(self, tried: set[Manifest]) -> list[Manifest]:
        votes: Counter[Manifest] = Counter()
        for who, given in self._given.items():
            votes.update(dict.fromkeys(given, 0))
            votes[given[-1]] += _weight(who)
        return [manifest for manifest, _ in votes.most_common() if manifest not in tried]

    async def _poll_all(self) -> None:
        secure = [who for who in self._source.resolvers if who.is_secure]
        plain = [who for who in self._source.resolvers if not who.is_secure]
        async with asyncio.TaskGroup() as tasks:
            first = [tasks.create_task(self._poll(who)) for who in secure]
            if first:
                await asyncio.wait(first, timeout=self._timings.secure_first)
            if self._given:
                await self._may_be_loud.wait()
            for who in plain:
                tasks.create_task(self._poll(who))

    async def _poll(self, who: DnsResolver) -> None:
        self._asked += _weight(who)
        name = f"{MANIFEST}.{self._source.zone}"
        try:
            asked = ask(who, [name], self._net)
            async with asyncio.timeout(self._timings.ask), aclosing(asked) as answers:
                async for answer in answers:
                    self._report.received(who, answer)
                    self._count(who, answer)
        except (CircumventError, TimeoutError) as error:
            self._report.fail(who, error)

    def _count(self, who: DnsResolver, answer: DnsAnswer) -> None:
        given = self._given.get(who, deque(maxlen=KEPT))
        for text in answer.texts:
            try:
                manifest = parse_manifest(text)
            except ValueError:
                self._report.note(who, Verdict.BROKEN)
                continue
            if given and manifest not in given:
                self._report.note(who, Verdict.FORGED)
            with suppress(ValueError):
                given.remove(manifest)
            given.append(manifest)
        if given:
            self._given[who] = given
            self._first_at = self._first_at or time.monotonic()
            self._news.set()


def _weight(who: DnsResolver) -> int:
    return SECURE_WEIGHT if who.is_secure else 1
