"""The race: candidates start one after the other, and who carried checked bytes first wins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from circumvent.api import NetworkDialer
from circumvent.errors import CircumventError
from circumvent.memory import Account, Memory
from circumvent.net.patience import Patience
from circumvent.state.attempts import attempt_record
from circumvent.state.store import Store
from circumvent.tasks import dismiss
from circumvent.tunnels.candidate import Candidate
from circumvent.tunnels.faults import plugin_faults
from circumvent.tunnels.live import LiveTunnel
from circumvent.tunnels.probe import TARGETS_AT_ONCE, Prober

FIRST_STAGGER = 0.25  # seconds; RFC 8305 §5 found it a good compromise
MIN_STAGGER, MAX_STAGGER = 0.05, 2.0
_TIMES = 8  # wins that the median is taken of
RACE_SECONDS = 8.0  # a server slower than this is no help; others run meanwhile
REACH_SECONDS = 4.0  # of them, to be reached at all: two lost packets
# While no tunnel is up, who has run for so many seconds keeps nobody back, up to a limit: a stale
# list may hold dozens that say nothing, before the one that does.
HANGING_AFTER = 0.35
MOST_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Track:
    """What every attempt needs; ``learnt`` is the dialer to servers that others named."""

    dialer: NetworkDialer
    learnt: NetworkDialer
    memory: Memory
    prober: Prober
    store: Store


@dataclass(frozen=True, slots=True)
class Finish:
    """How one entrant ended: with a tunnel, or with what failed."""

    candidate: Candidate
    live: LiveTunnel | None
    error: CircumventError | None = None


class Race:
    """Runs races; remembers how long wins took, to start the next one's entrants in step.

    ``is_dark`` tells whether no tunnel gives an answer.
    """

    def __init__(self, track: Track, parallel: int, is_dark: Callable[[], bool]) -> None:
        self._track = track
        self._parallel = parallel
        self._is_dark = is_dark
        self._times: list[float] = []

    async def run(
        self, next_entrant: Callable[[], Candidate | None]
    ) -> AsyncGenerator[Finish, None]:
        """Finishes as they come; closing the iterator cancels whoever still runs.

        ``next_entrant`` is asked at each start, so who rested meanwhile may join. The race ends
        when it knows nobody and nobody runs.
        """
        running: dict[asyncio.Task[Finish], float] = {}  # since when
        done: set[asyncio.Task[Finish]] = set()
        try:
            while True:
                entrant = next_entrant() if self._has_room(running) else None
                if entrant is not None:
                    task = asyncio.get_running_loop().create_task(self._enter(entrant))
                    running[task] = time.monotonic()
                if not running:
                    return
                done, _ = await asyncio.wait(
                    running, timeout=self._pause(running), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    del running[task]
                while done:
                    yield done.pop().result()
        finally:
            await _dismiss(done.union(running))

    def _has_room(self, running: Mapping[asyncio.Task[Finish], float]) -> bool:
        if not self._is_dark():
            return len(running) < self._parallel
        recent = time.monotonic() - HANGING_AFTER
        fresh = sum(since > recent for since in running.values())
        return fresh < self._parallel and len(running) < MOST_AT_ONCE

    def _pause(self, running: Mapping[asyncio.Task[Finish], float]) -> float | None:
        """Seconds until the next may start; None if that is only when one of these has ended."""
        if not self._is_dark():
            return self._stagger() if len(running) < self._parallel else None
        # The more hang, the less each of them is waited for.
        pause = self._stagger() * self._parallel / (self._parallel + len(running) - 1)
        return pause if self._has_room(running) else min(pause, HANGING_AFTER)

    def _stagger(self) -> float:
        if not self._times:
            return FIRST_STAGGER
        return min(max(median(self._times), MIN_STAGGER), MAX_STAGGER)

    async def _enter(self, candidate: Candidate) -> Finish:
        started = time.monotonic()
        try:
            live = await attempt(self._track, candidate)
        except CircumventError as error:
            return Finish(candidate, None, error.bare())
        self._times = [*self._times[1 - _TIMES :], time.monotonic() - started]
        return Finish(candidate, live)


async def _dismiss(entrants: Iterable[asyncio.Task[Finish]]) -> None:
    for late in await dismiss(entrants):
        if late.live is not None:
            await late.live.close()


async def attempt(track: Track, candidate: Candidate) -> LiveTunnel:
    """Connect and probe; leaves one record. Raises what failed (a CircumventError).

    What was reserved for the dial stays charged while the tunnel lives, for its probes.
    """
    account = track.memory.account(f"{candidate.transport.name} {candidate.id}")
    cost = candidate.transport.cost(candidate.entry)
    reserved = max(cost.dial, TARGETS_AT_ONCE * cost.stream)
    started = time.monotonic()

    def record(error: BaseException | None = None) -> None:
        peak = account.high_water
        record = attempt_record("race", candidate.id, started, peak, error)
        track.store.attempts.record(record)

    try:
        await account.reserve(reserved)
        try:
            with plugin_faults(candidate.transport.name):
                live = await _connect(track, candidate, account, reserved)
        except BaseException:
            account.discharge(reserved)
            raise
    except BaseException as error:
        record(error)
        raise
    record()
    return live


async def _connect(
    track: Track, candidate: Candidate, account: Account, reserved: int
) -> LiveTunnel:
    dialer = track.learnt if candidate.is_learnt else track.dialer
    async with Patience(REACH_SECONDS, once_reached=RACE_SECONDS):
        tunnel = await candidate.transport.connect(candidate.entry, dialer, account)
        try:
            rtt = await track.prober.probe(tunnel, account, Patience(), is_new=True)
        except BaseException:
            await tunnel.aclose()
            raise
    return LiveTunnel(candidate, tunnel, account, rtt, reserved)
