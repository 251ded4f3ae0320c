"""Fetch the chunks that a manifest names, from several resolvers at once.

A chunk carries its own proof, so it does not matter who sent it, or what was sent before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from circumvent.api import CircumventError, Verdict
from circumvent.wire.dns_chunks import Manifest, join, parse_chunk
from circumvent_plugins.dns_channel.asking import Net, ask
from circumvent_plugins.dns_channel.messages import DnsAnswer
from circumvent_plugins.dns_channel.report import Report
from circumvent_plugins.dns_channel.source import DnsResolver, DnsSource, DnsTransport

SHARE = 16  # questions to one resolver at a time; it takes more for an attack
FRUITLESS_ROUNDS = 2  # after so many, the manifest counts as forged


@dataclass(slots=True)
class Gathering:
    """The chunks of one manifest, until ``ends`` (monotonic seconds)."""

    source: DnsSource
    manifest: Manifest
    net: Net
    report: Report
    ends: float
    pieces: dict[str, bytes] = field(default_factory=dict)

    async def bundle(self, voters: Sequence[DnsResolver]) -> bytes | None:
        """All chunks joined, or None when they cannot be had.

        ``voters`` gave the manifest and are asked first, those with TLS alone if there are any.
        """
        preferred = [who for who in voters if who.is_secure] or voters
        turns = fruitless = 0
        while missing := self._missing():
            if fruitless == FRUITLESS_ROUNDS or time.monotonic() > self.ends:
                return None
            before = len(self.pieces)
            asked = self.source.resolvers if fruitless else preferred
            await self._round(deal(missing, asked, turns))
            fruitless = 0 if len(self.pieces) > before else fruitless + 1
            turns += 1
        return self._joined()

    def _missing(self) -> list[str]:
        return [x for x in dict.fromkeys(self.manifest.labels) if x not in self.pieces]

    async def _round(self, shares: Mapping[DnsResolver, Sequence[str]]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for who, labels in shares.items():
                tasks.create_task(self._take(who, labels))

    async def _take(self, who: DnsResolver, labels: Iterable[str]) -> None:
        waiting = {f"{label}.{self.source.zone}": label for label in labels}
        asked = ask(who, list(waiting), self.net)
        try:
            async with asyncio.timeout(self.net.timings.ask), aclosing(asked) as answers:
                async for answer in answers:
                    label = waiting.get(answer.name)
                    # Over UDP a better answer may come behind a bad one.
                    if label and (
                        self._keep(who, label, answer) or who.way is not DnsTransport.UDP
                    ):
                        del waiting[answer.name]
                    if not waiting:
                        return
        except (CircumventError, TimeoutError) as error:
            self.report.fail(who, error)

    def _keep(self, who: DnsResolver, label: str, answer: DnsAnswer) -> bool:
        """Whether ``answer`` holds the chunk."""
        self.report.received(who, answer)
        for text in answer.texts:
            try:
                self.pieces[label] = parse_chunk(label, text)
            except ValueError:
                self.report.note(who, Verdict.FORGED)
            else:
                return True
        return False

    def _joined(self) -> bytes | None:
        try:
            return join([self.pieces[label] for label in self.manifest.labels])
        except ValueError:
            return None


def deal(
    labels: Sequence[str], resolvers: Sequence[DnsResolver], turn: int
) -> dict[DnsResolver, list[str]]:
    """Which resolver is asked for which chunks: the same number each, others in each turn."""
    shares: dict[DnsResolver, list[str]] = {who: [] for who in resolvers}
    for at, label in enumerate(labels[: SHARE * len(resolvers)]):
        shares[resolvers[(at + turn) % len(resolvers)]].append(label)
    return {who: share for who, share in shares.items() if share}
