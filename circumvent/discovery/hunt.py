"""The race of channels: sources are asked one after the other until an answer is good enough.

Cheap and quiet channels start first. The next source starts when one has failed or is slow. A
costlier tier starts later, so that costly and noticeable channels mostly never start. Each fetch
first reserves its declared memory, on one account with a limit of its own: a second channel never
doubles the peak.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from circumvent.api import Channel, Fetch
from circumvent.discovery.timings import HuntTimings
from circumvent.errors import ChannelError, CircumventError, Verdict
from circumvent.tasks import dismiss
from circumvent.tunnels.faults import plugin_faults
from circumvent.wire.bundle import Bundle

if TYPE_CHECKING:
    from circumvent.discovery.list_reading import ListReading
    from circumvent.wire.server_list import ServerList

DEFAULTS = HuntTimings()
AT_ONCE = 6  # sources, besides slow ones, which must not hold up the others


@dataclass(frozen=True, slots=True)
class DiscoverySource:
    """A URL and the channel that reads it."""

    url: str
    channel: Channel

    @property
    def label(self) -> str:
        """Scheme and host, without path or query, which may be secret; of a file, its path."""
        parts = urlsplit(self.url)
        if parts.netloc:
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return f"{parts.scheme}:{parts.path}"


@dataclass(frozen=True, slots=True)
class Find:
    """How one fetch ended: with a bundle, or with what failed. ``ms`` is how long it took."""

    source: DiscoverySource
    bundle: Bundle | ServerList | None
    error: CircumventError | None
    ms: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether a bundle came, or the source says that the known one is the newest.

        A source that replays an old bundle says that too.
        """
        unchanged = isinstance(self.error, ChannelError) and self.error.verdict is Verdict.UNCHANGED
        return self.bundle is not None or unchanged


Ask = Callable[[DiscoverySource], Awaitable[Find]]


async def hunt(
    sources: Iterable[DiscoverySource],
    ask: Ask,
    settles: Callable[[Find], bool],
    timings: HuntTimings,
) -> AsyncGenerator[Find, None]:
    """Finds as they come; after the first that ``settles`` no source starts, but others finish.

    Ends after ``timings.hunt`` seconds, with a find for each source that had no time; closing the
    iterator cancels the fetches.
    """
    # Watched sources cost nothing and cannot be noticed: they come first in their tier.
    waiting = sorted(sources, key=lambda each: (each.channel.tier, not each.channel.watch))
    running: dict[asyncio.Task[Find], DiscoverySource] = {}
    started: dict[asyncio.Task[Find], float] = {}
    now = asyncio.get_running_loop().time
    ends = now() + timings.hunt
    try:
        while (waiting or running) and (time := now()) < ends:
            tier = waiting[0].channel.tier if waiting else 0
            quick = [at + timings.slow_after for task, at in started.items() if task in running]
            quick = [until for until in quick if until > time]
            if waiting and len(quick) < AT_ONCE:
                source = waiting.pop(0)
                task = asyncio.ensure_future(ask(source))
                running[task], started[task] = source, time
                quick.append(time + timings.slow_after)
            pause = _pause(waiting, tier, timings)
            if len(quick) >= AT_ONCE:
                pause = min(quick) - time
            done, _ = await asyncio.wait(
                running, timeout=min(pause, ends - time), return_when=asyncio.FIRST_COMPLETED
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
        await dismiss(running)


def _pause(waiting: Sequence[DiscoverySource], tier: int, timings: HuntTimings) -> float:
    """Seconds until the next source starts, if none fails before."""
    if not waiting:
        return timings.fetch
    return timings.next_after if waiting[0].channel.tier == tier else timings.next_tier_after


async def fetch(
    source: DiscoverySource,
    request: Fetch,
    examine: Callable[[bytes], Bundle],
    known: int = 0,
    seconds: float = DEFAULTS.fetch,
) -> Find:
    """Ask one source, and examine what it brings until a bundle verifies; never raises.

    The fetch may take ``seconds``. A bundle that is not newer than the ``known`` version does not
    end it: an attacker can put an old bundle before the new one.
    """
    return await _timed(source, _first_good(source, request, examine, known, seconds))


async def fetch_list(
    source: DiscoverySource,
    request: Fetch,
    reading: ListReading,
    seconds: float = DEFAULTS.fetch_list,
) -> Find:
    """Ask the source of a subscription for its list, and read it as it comes; never raises.

    A list that was cut counts if it brought no fewer servers than the known one.
    """
    return await _timed(source, _whole_list(source, request, reading, seconds))


async def _timed(source: DiscoverySource, asking: Awaitable[Bundle | ServerList]) -> Find:
    now = asyncio.get_running_loop().time
    started = now()
    bundle: Bundle | ServerList | None = None
    failure: CircumventError | None = None
    try:
        bundle = await asking
    except CircumventError as error:
        failure = error.bare()
    return Find(source, bundle, failure, (now() - started) * 1000)


async def _whole_list(
    source: DiscoverySource,
    request: Fetch,
    reading: ListReading,
    seconds: float,
) -> ServerList:
    """Raises CircumventError."""
    cost = source.channel.cost.dial
    await request.account.reserve(cost)
    try:
        async with asyncio.timeout(seconds):
            with plugin_faults(source.channel.name):
                async with contextlib.aclosing(source.channel.fetch(request)) as pieces:
                    async for piece in pieces:
                        reading.take(piece)
                        await asyncio.sleep(0)  # a long list must not take all our time
            reading.end()
    except (ChannelError, TimeoutError) as error:
        reading.end()
        if not reading.is_worth_it:
            if isinstance(error, ChannelError):
                raise
            raise ChannelError(Verdict.TOO_SLOW, f"{seconds:.0f} s") from None
        request.notes.clear()  # ask for all of it again
    finally:
        request.account.discharge(cost)
    return reading.finish()


async def _first_good(
    source: DiscoverySource,
    request: Fetch,
    examine: Callable[[bytes], Bundle],
    known: int,
    seconds: float,
) -> Bundle:
    """Raises CircumventError: why the last candidate was refused, or why there was none."""
    cost = source.channel.cost.dial
    await request.account.reserve(cost)
    same: Bundle | None = None
    refusal: CircumventError = ChannelError(Verdict.NOT_FOUND)
    notes: dict[str, str] = {}
    try:
        async with asyncio.timeout(seconds):
            with plugin_faults(source.channel.name):
                async with contextlib.aclosing(source.channel.fetch(request)) as candidates:
                    async for data in candidates:
                        try:
                            bundle = examine(data)
                        except CircumventError as error:
                            refusal = error.bare()
                            await asyncio.sleep(0)  # a flood must not take all our time
                            continue
                        if bundle.version > known:
                            return bundle
                        same, notes = bundle, dict(request.notes)
    except ChannelError as error:
        if isinstance(refusal, ChannelError):  # the refusal of a bundle tells more
            refusal = error.bare()
    except TimeoutError:
        refusal = ChannelError(Verdict.TOO_SLOW, f"{seconds:.0f} s")
    finally:
        request.account.discharge(cost)
    if same is None:
        raise refusal
    request.notes.clear()
    request.notes.update(notes)  # as if the source had brought only this bundle
    return same
