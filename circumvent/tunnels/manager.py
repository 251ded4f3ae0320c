"""The tunnel manager: keeps several tunnels up, unlike each other, and replaces the dead."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from circumvent.api import Privacy
from circumvent.errors import CircumventError, NoTunnelError
from circumvent.memory import Pressure
from circumvent.status.events import Events, NoneUp, Racing, TunnelLost, TunnelUp
from circumvent.tunnels.backoff import Backoff, BackoffError
from circumvent.tunnels.candidate import Candidate, distinct
from circumvent.tunnels.live import LiveTunnel, TunnelState
from circumvent.tunnels.order import least_alike, rank
from circumvent.tunnels.race import Finish, Race, Track

FROZEN_REST = 60.0  # seconds; of who wins races as before and would drop users' traffic again
STEADY_AFTER = 5.0  # seconds; who lived longer did not fail for the old reason
WAIT_FOR_TUNNEL = 10.0  # a client rather waits than fails, up to what browsers bear
_PRESSURE_RECHECK = 1.0
_LOOK_AGAIN = 2.0  # seconds; others may have asked for those who rest
_MS = 1000


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """The least privacy of a tunnel, how many are kept up, how many dials run at once."""

    privacy: Privacy
    wanted: int
    parallel: int


class TunnelManager:
    """Owns the pool. ``network`` is the salted name of the network that scores belong to.

    ``backoff`` may be shared with transports that greet servers by themselves.
    ``expects_more`` tells whether candidates may turn up any moment, so that clients wait.

    Candidates that hide less than the options demand are left out here, whoever made them: nothing
    below can bring them back.
    """

    def __init__(
        self,
        candidates: Iterable[Candidate],
        track: Track,
        events: Events,
        options: PoolOptions,
    ) -> None:
        self.tunnels: list[LiveTunnel] = []
        self.track = track
        self.network = ""
        self.expects_more: Callable[[], bool] = lambda: False
        self._floor = options.privacy
        self._candidates: list[Candidate] = []
        self._events = events
        self._wanted = options.wanted
        self._race = Race(track, options.parallel, self._is_dark)
        self._racing: list[Candidate] = []
        self.backoff = Backoff()
        self._graves: list[LiveTunnel] = []
        self._need = asyncio.Event()
        self._came_up = asyncio.Event()
        self.offer(candidates)

    def offer(self, candidates: Iterable[Candidate]) -> None:
        """Race these from now on; tunnels to others stay up until they fail."""
        self._candidates = [each for each in distinct(candidates) if each.privacy >= self._floor]
        self._need.set()

    async def run(self) -> None:
        """Race whenever tunnels are missing; ends only by cancellation."""
        try:
            while True:
                self._need.clear()
                await self._fill()
                await self._bury()
                with contextlib.suppress(TimeoutError):
                    pause = self._pause()
                    async with asyncio.timeout(pause and min(pause, _LOOK_AGAIN)):
                        await self._need.wait()
        finally:
            for live in self.tunnels:
                live.abort_streams()
            self._graves += self.tunnels
            self.tunnels.clear()
            await self._bury()

    async def pick(self, avoid: set[LiveTunnel]) -> LiveTunnel:
        """The best tunnel not in ``avoid``; waits for one when none is up at all.

        Raises NoTunnelError.
        """
        best = self._best(avoid)
        if best.state is not TunnelState.UP if best else not self.tunnels:
            self.backoff.ask(time.monotonic())
        if best is None and not self.tunnels and (self._candidates or self.expects_more()):
            best = await self._wait_for_one(avoid)
        if best is None:
            message = "no tunnel is up"
            raise NoTunnelError(message, stage="dispatch")
        return best

    def lose(self, live: LiveTunnel, reason: str, *, users_failed: bool = False) -> None:
        """Give a tunnel up: cut its streams, and race for a replacement at once.

        ``users_failed``: its probes pass, but not its users' traffic; that is scored apart.
        """
        if live.state is TunnelState.DEAD:
            return
        self._remove(live)
        live.abort_streams()
        now = time.monotonic()
        if users_failed:
            until = now + FROZEN_REST
            self.backoff.hold(live.candidate.id, now, until, is_useless=self.is_up())
        else:
            if time.time() - live.opened_at > STEADY_AFTER:
                self.backoff.worked(live.candidate.id)
            if not self.is_up():
                self.look_around()
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

    def is_up(self) -> bool:
        """Whether any tunnel is above suspicion."""
        return any(live.state is TunnelState.UP for live in self.tunnels)

    def look_around(self) -> None:
        """No verdict is waited for: let others race, also who rests, if there is room for them."""
        now, taken = time.monotonic(), self._taken()
        for candidate in self._candidates:
            if candidate not in taken:
                self.backoff.ask(now, candidate.id)
        self._need.set()

    def fresh_start(self) -> None:
        """The network changed: old failures say nothing any more."""
        self.backoff.forgive()
        self._need.set()

    def _remove(self, live: LiveTunnel) -> None:
        live.state = TunnelState.DEAD
        self.tunnels.remove(live)
        self._graves.append(live)
        self._need.set()

    async def _wait_for_one(self, avoid: set[LiveTunnel]) -> LiveTunnel | None:
        self._need.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_FOR_TUNNEL):
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
        try:
            async with contextlib.aclosing(self._race.run(self._next_entrant)) as finishes:
                async for finish in finishes:
                    self._arrive(finish)
                    if finish.error is not None:
                        failures, last = failures + 1, str(finish.error)
                    if self._is_full():
                        return
        finally:
            self._racing.clear()
        if failures and not self.tunnels:
            self._events(NoneUp(failures, last, self._pause() or 0.0))

    def _next_entrant(self) -> Candidate | None:
        scores = self.track.store.scores.on(self.network)
        entrant = least_alike(rank(self._entrants(), scores), self._taken())
        if entrant is not None:
            self._racing.append(entrant)
        return entrant

    def _entrants(self) -> list[Candidate]:
        if self._is_full() or self._is_crowded():
            return []
        now, taken = time.monotonic(), self._taken()
        rested = [
            candidate
            for candidate in self._candidates
            if candidate not in taken and self.backoff.ready_at(candidate.id) <= now
        ]
        # A lower class is tried only when nobody above it can be.
        best = max((each.privacy for each in rested), default=None)
        return [candidate for candidate in rested if candidate.privacy is best]

    def _taken(self) -> list[Candidate]:
        return [*self._racing, *(live.candidate for live in self.tunnels)]

    def _is_full(self) -> bool:
        """Whether no more are wanted; as long as none gives an answer, one more is."""
        return len(self.tunnels) >= self._wanted and not self._is_dark()

    def _is_dark(self) -> bool:
        """Whether no tunnel gives an answer."""
        return all(live.silent_since for live in self.tunnels)

    def _is_crowded(self) -> bool:
        memory = self.track.memory
        return memory.pressure >= Pressure.SCARCE or memory.charges_wait

    def _arrive(self, finish: Finish) -> None:
        candidate, live = finish.candidate, finish.live
        self._racing.remove(candidate)
        if live is None:
            self._rest(candidate, finish.error)
            return
        if not self.is_up():
            self.backoff.ask(time.monotonic())  # the network lets something pass again
        self.tunnels.append(live)
        self._remember(live, ok=True)
        entry = candidate.entry
        self._events(TunnelUp(entry.transport, entry.id, entry.name, live.rtt * _MS))
        self._came_up.set()

    def _remember(self, live: LiveTunnel, *, ok: bool, users_failed: bool = False) -> None:
        self.track.store.scores.remember(
            self.network,
            live.candidate.id,
            ok=ok,
            ms=live.rtt * _MS,
            user_bytes=live.bytes_down if users_failed else 0,
        )

    def _rest(self, candidate: Candidate, error: CircumventError | None) -> None:
        now = time.monotonic()
        if isinstance(error, BackoffError):
            self.backoff.hold(candidate.id, now, now + error.seconds)
            return
        is_own_trouble = error is not None and error.is_own_trouble
        may_pass = error is not None and is_own_trouble and error.errno != socket.EAI_NONAME
        self.backoff.failed(candidate.id, now, is_own_trouble=may_pass)
        if not is_own_trouble:
            self.track.store.scores.remember(
                self.network, candidate.id, ok=False, ms=0.0, user_bytes=0
            )

    def _pause(self) -> float | None:
        """Seconds until somebody could race again; None while nothing is missing."""
        if self._is_full():
            return None
        if self._is_crowded():
            return _PRESSURE_RECHECK
        taken = self._taken()
        ends = [self.backoff.ready_at(each.id) for each in self._candidates if each not in taken]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    async def _bury(self) -> None:
        while self._graves:
            await self._graves.pop().close()


def _preference(live: LiveTunnel) -> tuple[bool, int, float]:
    """Least first: beyond doubt, then the better privacy class, then the cheaper."""
    return live.is_doubtful, -live.privacy, live.cost()
