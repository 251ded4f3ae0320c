"""The race of channels: sources are asked one after the other until one settles the matter.

Cheap and quiet channels start first. The next source starts when one has failed or is slow; it
waits longer before a costlier tier begins, so that what is costly or noticeable mostly never
starts. Each fetch reserves its declared memory before, on one account with a limit of its own: a
second channel never doubles the peak.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from circumvent.api import Channel, Fetch
from circumvent.errors import ChannelError, CircumventError, Verdict
from circumvent.tunnels.faults import plugin_faults
from circumvent.wire.bundle import Bundle

AT_ONCE = 6  # sources, beside those that have proved slow: they keep nobody from their turn
SLOW_AFTER = 6.0  # seconds
NEXT_AFTER = 0.5  # seconds; within a tier
NEXT_TIER_AFTER = 3.0  # seconds
FETCH_SECONDS = 20.0  # of one source; what is slower is as good as dead
HUNT_SECONDS = 60.0  # of all: then the user hears what was tried


@dataclass(frozen=True, slots=True)
class DiscoverySource:
    """A URL and the channel that reads it."""

    url: str
    channel: Channel

    @property
    def label(self) -> str:
        """What may be shown: the scheme and the host, without path or query, which may be secret.

        A file's path is the user's own and stays.
        """
        parts = urlsplit(self.url)
        if parts.netloc:
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return f"{parts.scheme}:{parts.path}"


@dataclass(frozen=True, slots=True)
class Find:
    """How one fetch ended: with a bundle, or with what failed. ``ms`` is how long it took."""

    source: DiscoverySource
    bundle: Bundle | None
    error: CircumventError | None
    ms: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether it says something: a bundle came, or what is known is the newest.

        Anybody can say that, who keeps an old bundle.
        """
        unchanged = isinstance(self.error, ChannelError) and self.error.verdict is Verdict.UNCHANGED
        return self.bundle is not None or unchanged


Ask = Callable[[DiscoverySource], Awaitable[Find]]


async def hunt(
    sources: Iterable[DiscoverySource], ask: Ask, settles: Callable[[Find], bool]
) -> AsyncGenerator[Find, None]:
    """Finds as they come; after the first that settles nobody starts, but who runs may finish.

    Ends after ``HUNT_SECONDS``, with a find for each that had no time; closing the iterator
    cancels whoever runs.
    """
    # What may be watched costs nothing and nobody sees it: it comes before its tier.
    waiting = sorted(sources, key=lambda each: (each.channel.tier, not each.channel.watch))
    running: dict[asyncio.Task[Find], DiscoverySource] = {}
    started: dict[asyncio.Task[Find], float] = {}
    ends = time.monotonic() + HUNT_SECONDS
    try:
        while (waiting or running) and (now := time.monotonic()) < ends:
            tier = waiting[0].channel.tier if waiting else 0
            quick = [at + SLOW_AFTER for task, at in started.items() if task in running]
            quick = [until for until in quick if until > now]
            if waiting and len(quick) < AT_ONCE:
                source = waiting.pop(0)
                task = asyncio.ensure_future(ask(source))
                running[task], started[task] = source, now
                quick.append(now + SLOW_AFTER)
            pause = _pause(waiting, tier) if len(quick) < AT_ONCE else min(quick) - now
            done, _ = await asyncio.wait(
                running, timeout=min(pause, ends - now), return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                del running[task]
                find = task.result()
                if settles(find):
                    waiting.clear()
                yield find
        for source in running.values():
            yield Find(source, None, ChannelError(Verdict.TOO_SLOW))
        for source in waiting:
            yield Find(source, None, ChannelError(Verdict.NOT_ASKED))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _pause(waiting: Sequence[DiscoverySource], tier: int) -> float:
    """Seconds until the next source starts, if nothing fails before."""
    if not waiting:
        return FETCH_SECONDS
    return NEXT_AFTER if waiting[0].channel.tier == tier else NEXT_TIER_AFTER


async def fetch(
    source: DiscoverySource, request: Fetch, examine: Callable[[bytes], Bundle], known: int = 0
) -> Find:
    """Ask one source, and try what it brings until something verifies; never raises.

    What is not newer than the version that is ``known`` keeps nothing from its turn: anybody can
    put it before what is.
    """
    started = time.monotonic()
    bundle: Bundle | None = None
    failure: CircumventError | None = None
    try:
        bundle = await _first_good(source, request, examine, known)
    except CircumventError as error:
        failure = error.bare()
    return Find(source, bundle, failure, (time.monotonic() - started) * 1000)


async def _first_good(
    source: DiscoverySource, request: Fetch, examine: Callable[[bytes], Bundle], known: int
) -> Bundle:
    """Raises CircumventError: why the last candidate was refused, or why there was none."""
    cost = source.channel.cost.dial
    await request.account.reserve(cost)
    same: Bundle | None = None
    refusal: CircumventError = ChannelError(Verdict.NOT_FOUND)
    notes: dict[str, str] = {}
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            with plugin_faults(source.channel.name):
                async with contextlib.aclosing(source.channel.fetch(request)) as candidates:
                    async for data in candidates:
                        try:
                            bundle = examine(data)
                        except CircumventError as error:
                            refusal = error.bare()
                            await asyncio.sleep(0)  # who floods us has no right to all our time
                            continue
                        if bundle.version > known:
                            return bundle
                        same, notes = bundle, dict(request.notes)
    except ChannelError as error:
        if isinstance(refusal, ChannelError):  # what came and was refused tells more
            refusal = error.bare()
    except TimeoutError:
        refusal = ChannelError(Verdict.TOO_SLOW, f"{FETCH_SECONDS:.0f} s")
    finally:
        request.account.discharge(cost)
    if same is None:
        raise refusal
    request.notes.clear()
    request.notes.update(notes)  # as if it had been the only one
    return same
