"""The race: candidates start one after the other; the first that carries checked bytes wins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from circumvent.api import NetworkDialer, Privacy, Tunnel
from circumvent.errors import CircumventError, ProbeError
from circumvent.memory import Account, Memory
from circumvent.net.clock import SYSTEM_CLOCK, Clock
from circumvent.net.patience import Patience
from circumvent.state.attempts import attempt_record
from circumvent.state.store import Store
from circumvent.tasks import dismiss
from circumvent.tunnels.candidate import Candidate
from circumvent.tunnels.faults import plugin_faults
from circumvent.tunnels.live import LAST_RESORT, UNKNOWN_RTT, LiveTunnel
from circumvent.tunnels.probe import TARGETS_AT_ONCE, Prober
from circumvent.tunnels.timings import Timings
from circumvent.tunnels.verdict import is_page_gone

if TYPE_CHECKING:
    from circumvent.tunnels.first_use import FirstUse

_TIMES = 8  # wins that the median is taken of; the module statistics costs 0.3 MB
MOST_AT_ONCE = 64  # those that hang included


@dataclass(frozen=True, slots=True)
class RaceContext:
    """What every attempt needs; ``learnt`` is the dialer to servers that the user did not name."""

    dialer: NetworkDialer
    learnt: NetworkDialer
    memory: Memory
    prober: Prober
    store: Store
    clock: Clock = SYSTEM_CLOCK
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True, slots=True)
class Finish:
    """How an attempt of a race ended: with a tunnel, or with the error; a last resort has both."""

    candidate: Candidate
    live: LiveTunnel | None
    error: CircumventError | None = None


class Race:
    """Runs races, and remembers how long wins took: that is the time between two starts.

    ``is_dark`` tells whether no tunnel gives an answer.
    """

    def __init__(self, context: RaceContext, parallel: int, is_dark: Callable[[], bool]) -> None:
        self._context = context
        self._parallel = parallel
        self._is_dark = is_dark
        self._now = context.clock.now
        self._timings = context.timings.race
        self._times: list[float] = []

    async def run(
        self, next_entrant: Callable[[], Candidate | None]
    ) -> AsyncGenerator[Finish, None]:
        """Finishes as they come; closing the iterator cancels the attempts that still run.

        ``next_entrant`` is asked at each start: a candidate whose back-off ended may join. The race
        ends when there is none and none runs.
        """
        running: dict[asyncio.Task[Finish], float] = {}  # since when
        done: set[asyncio.Task[Finish]] = set()
        try:
            while True:
                entrant = next_entrant() if self._has_room(running) else None
                if entrant is not None:
                    task = asyncio.get_running_loop().create_task(self._enter(entrant))
                    running[task] = self._now()
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
            await _close_late(done.union(running))

    def _has_room(self, running: Mapping[asyncio.Task[Finish], float]) -> bool:
        if not self._is_dark():
            return len(running) < self._parallel
        recent = self._now() - self._timings.hanging_after
        fresh = sum(since > recent for since in running.values())
        return fresh < self._parallel and len(running) < MOST_AT_ONCE

    def _pause(self, running: Mapping[asyncio.Task[Finish], float]) -> float | None:
        """Seconds until the next may start; None if one of the running ones must end first."""
        if not self._is_dark():
            return self._stagger() if len(running) < self._parallel else None
        # The more candidates hang, the sooner the next one starts.
        pause = self._stagger() * self._parallel / (self._parallel + len(running) - 1)
        return pause if self._has_room(running) else min(pause, self._timings.hanging_after)

    def _stagger(self) -> float:
        if not self._times:
            return self._timings.first_stagger
        least, most = self._timings.stagger
        return min(max(sorted(self._times)[len(self._times) // 2], least), most)

    async def _enter(self, candidate: Candidate) -> Finish:
        started = self._now()
        try:
            live = await attempt(self._context, candidate)
        except CircumventError as error:
            return Finish(candidate, None, error.bare())
        if live.is_last_resort:
            return Finish(candidate, live, ProbeError(LAST_RESORT, stage="probe"))
        self._times = [*self._times[1 - _TIMES :], self._now() - started]
        return Finish(candidate, live)


async def _close_late(entrants: Iterable[asyncio.Task[Finish]]) -> None:
    """End the attempts that still run; a tunnel that one of them brings is closed."""
    for late in await dismiss(entrants):
        if late.live is not None:
            await late.live.close()


async def attempt(context: RaceContext, candidate: Candidate) -> LiveTunnel:
    """Connect and probe; leaves one record. Raises what failed (a CircumventError).

    What was reserved for the dial stays charged while the tunnel lives, for its probes. A tunnel
    that is a last resort comes back like one whose probe has passed; its record says why.
    """
    account = context.memory.account(f"{candidate.transport.name} {candidate.id}")
    cost = candidate.transport.cost(candidate.entry)
    reserved = max(cost.dial, TARGETS_AT_ONCE * cost.stream)
    started = context.clock.now()

    def record(error: BaseException | None = None) -> None:
        record = attempt_record(
            "race", candidate.id, started, account.high_water, error, clock=context.clock
        )
        context.store.attempts.record(record)

    try:
        await account.reserve(reserved)
        try:
            with plugin_faults(candidate.transport.name):
                live = await _connect(context, candidate, account, reserved)
        except BaseException:
            account.discharge(reserved)
            raise
    except BaseException as error:
        record(error)
        raise
    record(ProbeError(LAST_RESORT, stage="probe") if live.is_last_resort else None)
    return live


def _first_use(context: RaceContext, candidate: Candidate) -> FirstUse | None:
    if candidate.privacy is not Privacy.UNVERIFIED:
        return None
    from circumvent.tunnels.first_use import FirstUse  # noqa: PLC0415 - few servers need it

    return FirstUse(candidate.id, context.store.certificates)


async def _connect(
    context: RaceContext, candidate: Candidate, account: Account, reserved: int
) -> LiveTunnel:
    dialer = context.learnt if candidate.is_learnt else context.dialer
    first_use = _first_use(context, candidate)
    if first_use is not None:
        dialer = first_use.dialer(dialer)
    timings = context.timings
    patience = Patience(timings.race.reach_seconds, once_reached=timings.race.seconds)
    tunnel: Tunnel | None = None
    rtt, is_last_resort = UNKNOWN_RTT, False
    try:
        async with patience:
            tunnel = await candidate.transport.connect(candidate.entry, dialer, account)
            rtt = await context.prober.probe(tunnel, account, Patience(), is_new=True)
            if first_use is not None:
                first_use.keep()
    except BaseException as error:
        is_last_resort = _proves_itself(candidate, first_use) and is_page_gone(
            error, opened=patience.opened, answered=patience.answered
        )
        if tunnel is not None and not is_last_resort:
            await tunnel.aclose()
        if tunnel is None or not is_last_resort:
            raise
    return LiveTunnel(
        candidate,
        tunnel,
        account,
        rtt,
        reserved,
        context.clock,
        timings.stream,
        is_last_resort,
    )


def _proves_itself(candidate: Candidate, first_use: FirstUse | None) -> bool:
    if first_use is not None:
        return first_use.is_known
    return candidate.privacy is Privacy.ENCRYPTED
