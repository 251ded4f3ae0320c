"""The race: candidates start one after the other, and who carried checked bytes first wins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from statistics import median

from circumvent.api.contracts import Dialer
from circumvent.errors import CircumventError, PluginError
from circumvent.memory import Memory
from circumvent.tunnels.attempts import Attempt
from circumvent.tunnels.live import Candidate, LiveTunnel
from circumvent.tunnels.probe import Prober
from circumvent.tunnels.store import Store

FIRST_STAGGER = 0.25  # seconds; RFC 8305 §5 found it a good compromise
MIN_STAGGER, MAX_STAGGER = 0.05, 2.0
_TIMES = 8  # wins that the median is taken of
RACE_SECONDS = 8.0  # a server slower than this is no help; others run meanwhile
_MS = 1000


@dataclass(frozen=True, slots=True)
class Track:
    """What every attempt needs."""

    dialer: Dialer
    memory: Memory
    prober: Prober
    store: Store


@dataclass(frozen=True, slots=True)
class Finish:
    """How one entrant ended: with a tunnel, or with None."""

    candidate: Candidate
    live: LiveTunnel | None


class Race:
    """Runs races; remembers how long wins took, to start the next one's entrants in step."""

    def __init__(self, track: Track, parallel: int) -> None:
        self._track = track
        self._parallel = parallel
        self._times: list[float] = []

    async def run(self, candidates: Sequence[Candidate]) -> AsyncGenerator[Finish, None]:
        """Finishes as they come; closing the iterator cancels whoever still runs."""
        waiting = list(candidates)
        running: set[asyncio.Task[Finish]] = set()
        try:
            while waiting or running:
                if waiting and len(running) < self._parallel:
                    running.add(asyncio.ensure_future(self._enter(waiting.pop(0))))
                may_start = waiting and len(running) < self._parallel
                done, running = await asyncio.wait(
                    running,
                    timeout=self._stagger() if may_start else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            for late in await asyncio.gather(*running, return_exceptions=True):
                if isinstance(late, Finish) and late.live is not None:
                    await late.live.tunnel.aclose()

    def _stagger(self) -> float:
        if not self._times:
            return FIRST_STAGGER
        return min(max(median(self._times), MIN_STAGGER), MAX_STAGGER)

    async def _enter(self, candidate: Candidate) -> Finish:
        started = time.monotonic()
        try:
            live = await attempt(self._track, candidate)
        except CircumventError:
            return Finish(candidate, None)
        self._times = [*self._times[-_TIMES:], time.monotonic() - started]
        return Finish(candidate, live)


async def attempt(track: Track, candidate: Candidate) -> LiveTunnel:
    """Connect and probe; leaves one record. Raises what failed (a CircumventError)."""
    account = track.memory.account(f"{candidate.transport.name} {candidate.id}")
    cost = candidate.transport.cost.dial
    started = time.monotonic()
    try:
        await account.reserve(cost)
        try:
            async with asyncio.timeout(RACE_SECONDS):
                live = await _connect(track, candidate)
        finally:
            account.discharge(cost)
    except BaseException as error:
        failure = _as_ours(error, candidate)
        _record(track.store, candidate, started, account.high_water, failure or error)
        if failure is None:
            raise
        raise failure from error
    _record(track.store, candidate, started, account.high_water, None)
    return live


async def _connect(track: Track, candidate: Candidate) -> LiveTunnel:
    account = track.memory.account(f"{candidate.transport.name} {candidate.id}")
    tunnel = await candidate.transport.connect(candidate.entry, track.dialer, account)
    try:
        rtt = await track.prober.probe(tunnel, account, RACE_SECONDS)
    except BaseException:
        await tunnel.aclose()
        raise
    live = LiveTunnel(candidate, tunnel, account, rtt)
    live.last_heard = asyncio.get_running_loop().time()
    return live


def _as_ours(error: BaseException, candidate: Candidate) -> CircumventError | None:
    """A plugin may raise anything; only cancellation and interpreter exits pass as they are."""
    if isinstance(error, CircumventError):
        return error
    if isinstance(error, TimeoutError):
        return CircumventError(f"gave up after {RACE_SECONDS:.0f} s", stage="race")
    if isinstance(error, Exception):
        name = candidate.transport.name
        return PluginError(f"transport {name} broke with {type(error).__name__}", stage="plugin")
    return None


def _record(
    store: Store, candidate: Candidate, started: float, peak: int, error: BaseException | None
) -> None:
    known = error if isinstance(error, CircumventError) else None
    outcome = "ok" if error is None else "failed" if known else "cancelled"
    store.record(
        Attempt(
            at=time.time(),
            what="race",
            server=candidate.id,
            stage=known.stage if known else "probe",
            outcome=outcome,
            errno=known.errno if known else None,
            ms=(time.monotonic() - started) * _MS,
            peak=peak,
            detail=str(known) if known else "",
        )
    )
