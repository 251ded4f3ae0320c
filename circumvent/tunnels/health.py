"""Health: who is suspected, who is probed, who is dead, and who gives way under pressure.

A tunnel is suspected when a stream waits without an answer while nobody else on the same
tunnel hears anything. A probe then decides: so a slow destination never fails a tunnel over.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from circumvent.errors import CircumventError
from circumvent.memory import Pressure
from circumvent.tunnels.attempts import Attempt
from circumvent.tunnels.live import LiveTunnel, Relay, State
from circumvent.tunnels.manager import TunnelManager

TICK = 0.2  # seconds; how late a suspicion may be
PROBE_SECONDS = 1.0  # at least; four round trips where those are longer
PROBE_ROUND_TRIPS = 4
DOUBT_AGAIN_AFTER = 2.0  # many failing streams are one reason to probe, not many
IDLE_PROBE = (45.0, 90.0)  # seconds, drawn anew each time: no clockwork for a watcher to find
LONGEST_PATIENCE = 30.0
FROZEN_AFTER = 10.0  # silence in mid-flow, on a tunnel that passes probes
MAX_FREEZES = 3  # as many frozen flows, and none that passed 64 KiB: users' traffic is dropped
STALLED_AFTER = 5.0  # a client that took nothing for so long may give way to others
WALL_CLOCK_JUMP = 5.0  # the machine slept
_MS = 1000


class Health:
    """Watches the manager's tunnels. ``identify`` names the current network, raw."""

    def __init__(self, manager: TunnelManager, identify: Callable[[], bytes]) -> None:
        self._manager = manager
        self._identify = identify
        self._here: bytes | None = None
        self._checks: set[asyncio.Task[None]] = set()
        self._verified: dict[LiveTunnel, float] = {}
        self._next_idle_probe: dict[LiveTunnel, float] = {}

    async def run(self) -> None:
        """Tick until cancelled."""
        try:
            while True:
                before = time.time()
                await asyncio.sleep(TICK)
                self._tick(asyncio.get_running_loop().time())
                self._relieve_pressure(asyncio.get_running_loop().time())
                if time.time() - before > WALL_CLOCK_JUMP:
                    self.revalidate()
        finally:
            for check in self._checks:
                check.cancel()
            await asyncio.gather(*self._checks, return_exceptions=True)

    def look_at_network(self) -> None:
        """Find out where we are; a new network revalidates every tunnel at once."""
        here = self._identify()
        if here == self._here:
            return
        moved = self._here is not None
        self._here = here
        self._manager.network = self._manager.track.store.network_id(here)
        if moved:
            self._manager.fresh_start()
            self.revalidate()

    def revalidate(self) -> None:
        """Probe every tunnel now."""
        for live in tuple(self._manager.tunnels):
            self.suspect(live)

    def doubt(self, live: LiveTunnel) -> None:
        """A stream failed: suspect the tunnel, unless it was verified just now."""
        now = asyncio.get_running_loop().time()
        if now - self._verified.get(live, 0.0) > DOUBT_AGAIN_AFTER:
            self.suspect(live)

    def suspect(self, live: LiveTunnel) -> None:
        """New streams go elsewhere while a probe finds out."""
        if live.state is State.UP:
            live.state = State.SUSPECTED
            self._check(live)

    def _check(self, live: LiveTunnel) -> None:
        check = asyncio.get_running_loop().create_task(self._verify(live))
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)

    def _tick(self, now: float) -> None:
        for live in tuple(self._manager.tunnels):
            if live.state is not State.UP:
                continue
            if any(_is_silent(relay, now) for relay in live.relays):
                self.suspect(live)
            elif now > self._next_idle_probe.setdefault(live, now + random.uniform(*IDLE_PROBE)):  # noqa: S311
                self._next_idle_probe[live] = now + random.uniform(*IDLE_PROBE)  # noqa: S311
                self._check(live)
            self._count_freezes(live, now)

    def _count_freezes(self, live: LiveTunnel, now: float) -> None:
        if live.proven:
            return
        for relay in live.relays:
            waits = relay.waiting_since and now - relay.waiting_since > FROZEN_AFTER
            if waits and relay.heard_bytes and not relay.frozen:
                relay.frozen = True
                live.freezes += 1
        if live.freezes >= MAX_FREEZES:
            self._manager.lose(live, "probes pass, but users' traffic freezes")

    async def _verify(self, live: LiveTunnel) -> None:
        seconds = max(PROBE_SECONDS, PROBE_ROUND_TRIPS * live.rtt)
        started = asyncio.get_running_loop().time()
        try:
            rtt = await self._probe(live, seconds)
        except CircumventError as error:
            self._record(live, started, error)
            if live.last_heard > started:  # somebody was answered meanwhile: it lives
                self._acquit(live, live.rtt)
            else:
                self._manager.lose(live, str(error))
            self._forget_dead()
        else:
            self._record(live, started, None)
            self._acquit(live, rtt)

    async def _probe(self, live: LiveTunnel, seconds: float) -> float:
        """Two targets at once: one that is down must not condemn the tunnel."""
        prober = self._manager.track.prober
        probes = [
            asyncio.ensure_future(prober.probe(live.tunnel, live.account, seconds))
            for _ in range(min(2, prober.targets))
        ]
        try:
            for probe in asyncio.as_completed(probes):
                try:
                    return await probe
                except CircumventError as error:
                    last = error
            raise last
        finally:
            for probe in probes:
                probe.cancel()
            await asyncio.gather(*probes, return_exceptions=True)

    def _acquit(self, live: LiveTunnel, rtt: float) -> None:
        now = asyncio.get_running_loop().time()
        if live.state is State.SUSPECTED:
            live.state = State.UP
        live.rtt = (3 * live.rtt + rtt) / 4
        live.last_heard = self._verified[live] = now
        for relay in live.relays:
            if relay.waiting_since:
                relay.patience = min(2 * relay.patience, LONGEST_PATIENCE)

    def _forget_dead(self) -> None:
        for facts in (self._verified, self._next_idle_probe):
            for live in [live for live in facts if live.state is State.DEAD]:
                del facts[live]

    def _record(self, live: LiveTunnel, started: float, error: CircumventError | None) -> None:
        self._manager.track.store.record(
            Attempt(
                at=time.time(),
                what="probe",
                server=live.candidate.id,
                stage=error.stage if error else "probe",
                outcome="failed" if error else "ok",
                errno=error.errno if error else None,
                ms=(asyncio.get_running_loop().time() - started) * _MS,
                peak=live.account.high_water,
                detail=str(error) if error else "",
            )
        )

    def _relieve_pressure(self, now: float) -> None:
        """Spare tunnels go first, then the stream that has been stalled for longest."""
        memory = self._manager.track.memory
        if memory.pressure < Pressure.CRITICAL and not memory.charges_wait:
            return
        for live in tuple(self._manager.tunnels):
            self._manager.shed(live)
        stalled = [
            relay
            for live in self._manager.tunnels
            for relay in live.relays
            if now - relay.moved_at > STALLED_AFTER and not relay.client.room()
        ]
        if stalled:
            longest = min(stalled, key=lambda relay: relay.moved_at)
            longest.client.abort()
            longest.stream.abort()


def _is_silent(relay: Relay, now: float) -> bool:
    since = relay.waiting_since
    return bool(since) and now - max(since, relay.live.last_heard) > relay.patience
