"""The tunnel manager: keeps several unlike tunnels up, and replaces those that die."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from circumvent.api import Privacy
from circumvent.errors import CircumventError, NoTunnelError
from circumvent.memory import Pressure
from circumvent.status.events import Events, LastResort, NoneUp, Racing, TunnelLost, TunnelUp
from circumvent.tunnels.backoff import Backoff, BackoffError
from circumvent.tunnels.candidate import Candidate, distinct
from circumvent.tunnels.live import LAST_RESORT, LiveTunnel, TunnelState
from circumvent.tunnels.order import least_alike, rank
from circumvent.tunnels.race import Finish, Race, RaceContext

_MS = 1000


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """The least privacy of a tunnel, how many are kept up, how many dials run at once."""

    privacy: Privacy
    wanted: int
    parallel: int


class TunnelManager:
    """Owns the pool. ``network`` is the salted name of the network that scores belong to.

    ``backoff`` may be shared with transports that dial servers by themselves.
    ``expects_more`` tells whether candidates may turn up any moment, so that clients wait.

    Candidates that hide less than the options demand are left out here, wherever they come from:
    nothing below can bring them back.
    """

    def __init__(self, context: RaceContext, events: Events, options: PoolOptions) -> None:
        self.tunnels: list[LiveTunnel] = []
        self.context = context
        self.network = ""
        self.expects_more: Callable[[], bool] = lambda: False
        self._floor = options.privacy
        self._candidates: list[Candidate] = []
        self._events = events
        self._wanted = options.wanted
        self._race = Race(context, options.parallel, self._is_dark)
        self._racing: list[Candidate] = []
        self._last_resorts: list[LiveTunnel] = []  # of this race, not used yet
        self.backoff = Backoff(context.timings.backoff)
        self._timings = context.timings.pool
        self._clock = context.clock
        self._to_close: list[LiveTunnel] = []
        self._need = asyncio.Event()
        self._came_up = asyncio.Event()

    def offer(self, candidates: Iterable[Candidate]) -> None:
        """Race these candidates from now on; tunnels to others stay up until they fail."""
        self._candidates = [each for each in distinct(candidates) if each.privacy >= self._floor]
        self._need.set()

    async def run(self) -> None:
        """Race whenever tunnels are missing; ends only by cancellation."""
        try:
            while True:
                self._need.clear()
                await self._fill()
                await self._close_lost()
                with contextlib.suppress(TimeoutError):
                    pause = self._pause()
                    async with asyncio.timeout(pause and min(pause, self._timings.look_again)):
                        await self._need.wait()
        finally:
            for live in self.tunnels:
                live.abort_streams()
            self._to_close += self.tunnels
            self.tunnels.clear()
            await self._close_lost()

    async def pick(self, avoid: set[LiveTunnel]) -> LiveTunnel:
        """The best tunnel not in ``avoid``; waits for one when none is up at all.

        Raises NoTunnelError.
        """
        best = self._best(avoid)
        if not best.is_sure if best else not self.tunnels:
            self.backoff.ask(self._clock.now())
        if best is None and not self.tunnels and (self._candidates or self.expects_more()):
            best = await self._wait_for_one(avoid)
        if best is None:
            raise NoTunnelError("no tunnel is up", stage="dispatch")
        return best

    def lose(self, live: LiveTunnel, reason: str, *, users_failed: bool = False) -> None:
        """Give a tunnel up: cut its streams, and race for a replacement at once.

        ``users_failed``: its probes pass, but users' traffic does not; that is scored separately.
        """
        if live.state is TunnelState.DEAD:
            return
        self._remove(live)
        live.abort_streams()
        now = self._clock.now()
        if users_failed:
            until = now + self._timings.frozen_pause
            is_useless = self.is_up() or live.is_last_resort
            self.backoff.hold(live.candidate.id, now, until, is_useless=is_useless)
        else:
            if self._clock.wall() - live.opened_at > self._timings.steady_after:
                self.backoff.worked(live.candidate.id)
            if not self.is_up():
                self.try_others()
            self.backoff.failed(live.candidate.id, now)
        self._remember(live, ok=False, users_failed=users_failed)
        entry = live.candidate.entry
        self._events(TunnelLost(entry.transport, entry.id, entry.name, reason))

    def shed(self, live: LiveTunnel) -> bool:
        """Drop a spare tunnel that carries nothing; it may race again when there is room."""
        if not live.is_idle or len(self.tunnels) == 1:
            return False
        self._remove(live)
        return True

    def demote(self, live: LiveTunnel) -> None:
        """Its probe page is out of reach now, and no tunnel is better: look for one."""
        live.is_last_resort = True
        self._tell_last_resort(live)
        self.try_others()

    def prove(self, live: LiveTunnel) -> None:
        """A probe passed through a last resort after all: it is a tunnel like any other."""
        live.is_last_resort = False
        self._welcome(live)

    def is_up(self) -> bool:
        """Whether any tunnel is above suspicion."""
        return any(live.is_sure for live in self.tunnels)

    def has_tried_all(self) -> bool:
        """Whether no tunnel is up and each candidate has failed, or is being tried."""
        untried = (each for each in self._candidates if not self.backoff.failures(each.id))
        return not self.is_up() and all(each in self._racing for each in untried)

    def try_others(self) -> None:
        """Let other candidates race before the verdict, if there is room; back-off ends early."""
        now, taken = self._clock.now(), self._taken()
        for candidate in self._candidates:
            if candidate not in taken:
                self.backoff.ask(now, candidate.id)
        self._need.set()

    def forget_failures(self) -> None:
        """The network changed: failures on the old one mean nothing here."""
        self.backoff.forget()
        self._need.set()

    def _remove(self, live: LiveTunnel) -> None:
        live.state = TunnelState.DEAD
        self.tunnels.remove(live)
        self._to_close.append(live)
        self._need.set()

    async def _wait_for_one(self, avoid: set[LiveTunnel]) -> LiveTunnel | None:
        self._need.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.wait_for_tunnel):
                while not self.tunnels:
                    self._came_up.clear()
                    await self._came_up.wait()
        return self._best(avoid)

    def _best(self, avoid: set[LiveTunnel]) -> LiveTunnel | None:
        choice = [live for live in self.tunnels if live not in avoid] if avoid else self.tunnels
        if len(choice) == 1:
            return choice[0]
        return min(choice, key=_preference, default=None)

    async def _fill(self) -> None:
        entrants = self._entrants()
        if not entrants:
            return
        self._events(Racing(len(entrants)))
        failures, last = 0, ""
        patient_until = self._clock.now() + self._timings.last_resort_after
        try:
            async with contextlib.aclosing(self._race.run(self._next_entrant)) as finishes:
                async for finish in finishes:
                    self._arrive(finish)
                    if finish.error is not None:
                        failures, last = failures + 1, str(finish.error)
                    if self._clock.now() > patient_until:
                        self._use_last_resorts()
                    if self._is_full():
                        return
            self._use_last_resorts()
        finally:
            self._racing.clear()
            self._drop_last_resorts()
        if failures and not self.tunnels:
            self._events(NoneUp(failures, last, self._pause() or 0.0))

    def _next_entrant(self) -> Candidate | None:
        scores = self.context.store.scores.on(self.network)
        entrant = least_alike(rank(self._entrants(), scores), self._taken())
        if entrant is not None:
            self._racing.append(entrant)
        return entrant

    def _entrants(self) -> list[Candidate]:
        if self._is_full() or self._is_crowded():
            return []
        now, taken = self._clock.now(), self._taken()
        ready = [
            candidate
            for candidate in self._candidates
            if candidate not in taken and self.backoff.ready_at(candidate.id) <= now
        ]
        # A lower privacy class is tried only when no candidate of a higher one can be.
        best = max((each.privacy for each in ready), default=None)
        return [candidate for candidate in ready if candidate.privacy is best]

    def _taken(self) -> list[Candidate]:
        used = (live.candidate for live in (*self.tunnels, *self._last_resorts))
        return [*self._racing, *used]

    def _is_full(self) -> bool:
        """Whether enough tunnels are up; while none of them answers, one more is wanted."""
        proven = sum(not live.is_last_resort for live in self.tunnels)
        return proven >= self._wanted and not self._is_dark()

    def _is_dark(self) -> bool:
        """Whether no tunnel gives an answer."""
        return all(live.silent_since or live.is_last_resort for live in self.tunnels)

    def _is_crowded(self) -> bool:
        memory = self.context.memory
        return memory.pressure >= Pressure.SCARCE or memory.charges_wait

    def _arrive(self, finish: Finish) -> None:
        candidate, live = finish.candidate, finish.live
        self._racing.remove(candidate)
        if live is None:
            self._back_off(candidate, finish.error)
        elif live.is_last_resort:
            self._last_resorts.append(live)
        else:
            if not self.is_up():
                self.backoff.ask(self._clock.now())  # the network works again: others may too
            self.tunnels.append(live)
            self._welcome(live)

    def _welcome(self, live: LiveTunnel) -> None:
        """A probe passed: nobody needs a last resort now."""
        self._remember(live, ok=True)
        entry = live.candidate.entry
        self._events(TunnelUp(entry.transport, entry.id, entry.name, live.rtt * _MS))
        self._came_up.set()
        for each in tuple(self.tunnels):
            if each.is_last_resort and self.shed(each):
                self.backoff.failed(each.candidate.id, self._clock.now())

    def _use_last_resorts(self) -> None:
        """Where no better tunnel is there, use those that came, as many as are wanted."""
        while self._last_resorts and len(self.tunnels) < self._wanted:
            if not all(live.is_last_resort for live in self.tunnels):
                return
            live = self._last_resorts.pop(0)
            self.tunnels.append(live)
            self._tell_last_resort(live)
            self._came_up.set()

    def _tell_last_resort(self, live: LiveTunnel) -> None:
        entry = live.candidate.entry
        self._events(LastResort(entry.transport, entry.id, entry.name, LAST_RESORT))

    def _drop_last_resorts(self) -> None:
        for live in self._last_resorts:
            self._back_off(live.candidate, None)
        self._to_close += self._last_resorts
        self._last_resorts.clear()

    def _remember(self, live: LiveTunnel, *, ok: bool, users_failed: bool = False) -> None:
        self.context.store.scores.remember(
            self.network,
            live.candidate.id,
            ok=ok,
            ms=live.rtt * _MS,
            user_bytes=live.bytes_down if users_failed else 0,
        )

    def _back_off(self, candidate: Candidate, error: CircumventError | None) -> None:
        now = self._clock.now()
        if isinstance(error, BackoffError):
            self.backoff.hold(candidate.id, now, now + error.seconds)
            return
        is_own_trouble = error is not None and error.is_own_trouble
        may_pass = error is not None and is_own_trouble and error.errno != socket.EAI_NONAME
        self.backoff.failed(candidate.id, now, is_own_trouble=may_pass)
        if not is_own_trouble:
            self.context.store.scores.remember(
                self.network, candidate.id, ok=False, ms=0.0, user_bytes=0
            )

    def _pause(self) -> float | None:
        """Seconds until a candidate may race again; None while no tunnel is missing."""
        if self._is_full():
            return None
        if self._is_crowded():
            return self._timings.pressure_recheck
        taken = self._taken()
        ends = [self.backoff.ready_at(each.id) for each in self._candidates if each not in taken]
        return max(0.0, min(ends) - self._clock.now()) if ends else None

    async def _close_lost(self) -> None:
        while self._to_close:
            await self._to_close.pop().close()


def _preference(live: LiveTunnel) -> tuple[bool, bool, int, float]:
    """The least is the best: proved by a probe, not in doubt, of a better class, cheaper."""
    return live.is_last_resort, live.is_doubtful, -live.privacy, live.cost()
