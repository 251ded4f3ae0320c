"""The tunnel manager: keeps several tunnels up, unlike each other, and replaces the dead."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence

from circumvent.errors import NoTunnelError
from circumvent.events import Events, Racing, TunnelLost, TunnelUp
from circumvent.memory import Pressure
from circumvent.tunnels.live import Candidate, LiveTunnel, State
from circumvent.tunnels.order import diversify, rank
from circumvent.tunnels.race import Finish, Race, Track

FIRST_REST, LONGEST_REST = 1.0, 60.0  # seconds; doubled at each failure in a row
WAIT_FOR_TUNNEL = 10.0  # a client rather waits than fails, up to what browsers bear
_PRESSURE_RECHECK = 1.0
_MS = 1000


class TunnelManager:
    """Owns the pool. ``network`` is the salted name of the network that scores belong to."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        track: Track,
        events: Events,
        *,
        wanted: int,
        parallel: int,
    ) -> None:
        self.tunnels: list[LiveTunnel] = []
        self.track = track
        self.network = ""
        self._candidates = candidates
        self._events = events
        self._wanted = wanted
        self._race = Race(track, parallel)
        self._rests: dict[str, tuple[int, float]] = {}
        self._graves: list[LiveTunnel] = []
        self._need = asyncio.Event()
        self._came_up = asyncio.Event()

    async def run(self) -> None:
        """Race whenever tunnels are missing; ends only by cancellation."""
        try:
            while True:
                self._need.clear()
                await self._fill()
                await self._bury()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._need.wait()
        finally:
            for live in tuple(self.tunnels):
                live.abort_streams()
                await live.tunnel.aclose()

    async def pick(self, avoid: set[LiveTunnel]) -> LiveTunnel:
        """The best tunnel not in ``avoid``; waits for one when none was tried yet.

        Raises NoTunnelError.
        """
        best = self._best(avoid)
        if best is None and not avoid:
            best = await self._wait_for_one()
        if best is None:
            message = "no tunnel is up"
            raise NoTunnelError(message, stage="dispatch")
        return best

    def lose(self, live: LiveTunnel, reason: str) -> None:
        """Give a tunnel up: cut its streams, and race for a replacement at once."""
        if live.state is State.DEAD:
            return
        live.state = State.DEAD
        self.tunnels.remove(live)
        self._graves.append(live)
        live.abort_streams()
        self._rest(live.candidate)
        self._remember(live, ok=False)
        entry = live.candidate.entry
        self._events(TunnelLost(entry.transport, entry.id, entry.name, reason))
        self._need.set()

    def shed(self, live: LiveTunnel) -> None:
        """Drop a spare tunnel that carries nothing; it may race again when there is room."""
        if not live.relays and len(self.tunnels) > 1:
            self.tunnels.remove(live)
            self._graves.append(live)
            live.state = State.DEAD

    def fresh_start(self) -> None:
        """The network changed: old failures say nothing any more."""
        self._rests.clear()
        self._need.set()

    async def _wait_for_one(self) -> LiveTunnel | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_FOR_TUNNEL):
                while not self.tunnels:
                    self._came_up.clear()
                    await self._came_up.wait()
        return self._best(set())

    def _best(self, avoid: set[LiveTunnel]) -> LiveTunnel | None:
        choice = [live for live in self.tunnels if live not in avoid]
        if not choice:
            return None
        return min(choice, key=lambda live: (live.state is not State.UP, live.cost()))

    async def _fill(self) -> None:
        entrants = self._entrants()
        if not entrants:
            return
        self._events(Racing(len(entrants)))
        async with contextlib.aclosing(self._race.run(entrants)) as finishes:
            async for finish in finishes:
                self._arrive(finish)
                if len(self.tunnels) >= self._wanted:
                    return

    def _entrants(self) -> list[Candidate]:
        if len(self.tunnels) >= self._wanted or self._crowded():
            return []
        now = asyncio.get_running_loop().time()
        taken = [live.candidate for live in self.tunnels]
        rested = [
            candidate
            for candidate in self._candidates
            if candidate not in taken and self._rests.get(candidate.id, (0, 0.0))[1] <= now
        ]
        return diversify(rank(rested, self.track.store.scores(self.network)), taken)

    def _crowded(self) -> bool:
        return self.track.memory.pressure >= Pressure.SCARCE

    def _arrive(self, finish: Finish) -> None:
        live = finish.live
        if live is None:
            self._rest(finish.candidate)
            self.track.store.remember(
                self.network, finish.candidate.id, ok=False, ms=0.0, user_bytes=0
            )
            return
        self._rests.pop(finish.candidate.id, None)
        self.tunnels.append(live)
        self._remember(live, ok=True)
        entry = live.candidate.entry
        self._events(TunnelUp(entry.transport, entry.id, entry.name, live.rtt * _MS))
        self._came_up.set()

    def _remember(self, live: LiveTunnel, *, ok: bool) -> None:
        self.track.store.remember(
            self.network, live.candidate.id, ok=ok, ms=live.rtt * _MS, user_bytes=live.bytes_down
        )

    def _rest(self, candidate: Candidate) -> None:
        failures = self._rests.get(candidate.id, (0, 0.0))[0]
        seconds = min(FIRST_REST * 2**failures, LONGEST_REST) * random.uniform(0.75, 1.25)  # noqa: S311
        until = asyncio.get_running_loop().time() + seconds
        self._rests[candidate.id] = (failures + 1, until)

    def _pause(self) -> float | None:
        """Seconds until somebody could race again; None while nothing is missing."""
        if len(self.tunnels) >= self._wanted:
            return None
        if self._crowded():
            return _PRESSURE_RECHECK
        resting = [until for _, until in self._rests.values()]
        if not resting:
            return None
        return max(0.0, min(resting) - asyncio.get_running_loop().time())

    async def _bury(self) -> None:
        while self._graves:
            await self._graves.pop().tunnel.aclose()
