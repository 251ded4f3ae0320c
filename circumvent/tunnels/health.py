"""Health: who is suspected, who is probed, who is dead.

A tunnel is suspected when a stream waits without an answer while nobody else on the same
tunnel hears anything. A probe then decides: so a slow destination never fails a tunnel over.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from time import time as wall_clock

from circumvent.errors import CircumventError
from circumvent.tunnels.attempts import attempt_record
from circumvent.tunnels.faults import plugin_faults
from circumvent.tunnels.live import LiveTunnel, State
from circumvent.tunnels.manager import TunnelManager
from circumvent.tunnels.relief import relieve

TICK = 0.2  # seconds; how late a suspicion may be
OPEN_SECONDS = 10.0  # the longest that a stream may take to open; a suspicion comes long before
PROBE_SECONDS = 1.0  # at least; four round trips where those are longer
PROBE_ROUND_TRIPS = 4
LONGEST_PROBE = 3.0
DOUBT_AGAIN_AFTER = 2.0  # many failing streams are one reason to probe, not many
IDLE_PROBE = (45.0, 90.0)  # seconds, drawn anew each time: no clockwork for a watcher to find
FIRST_LOOK = (3.0, 6.0)  # after the win, whose time may have been exceptional
LONGEST_PATIENCE = 30.0
FROZEN_AFTER = 10.0  # silence in mid-flow, on a tunnel that passes probes
RESUMES_WITHIN = 60.0  # as long as a relay keeps a session without carriers, and less
MAX_FREEZES = 3  # as many frozen flows, and none that passed 64 KiB: users' traffic is dropped
WALL_CLOCK_JUMP = 5.0  # the machine slept


class Health:
    """Watches the manager's tunnels.

    ``identify`` names the current network, raw, and is empty where there is none; ``forget`` drops
    what was learnt on the old one.
    """

    def __init__(
        self,
        manager: TunnelManager,
        identify: Callable[[], bytes],
        forget: Callable[[], None],
    ) -> None:
        self._manager = manager
        self._identify = identify
        self._forget = forget
        self._here = b""
        self._seen: bytes | None = None  # at the last look
        self._checks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Tick until cancelled."""
        try:
            while True:
                before = wall_clock()
                await asyncio.sleep(TICK)
                now = time.monotonic()
                self._tick(now)
                relieve(self._manager, now)
                if wall_clock() - before > WALL_CLOCK_JUMP:
                    self.revalidate()
        finally:
            for check in self._checks:
                check.cancel()
            await asyncio.gather(*self._checks, return_exceptions=True)

    def look_at_network(self) -> None:
        """Find out where we are; a new network revalidates every tunnel at once.

        A name that only grew is that of the same network, and being nowhere may pass: when we are
        back, the tunnels are probed, but nothing is forgotten.
        """
        here, before = self._identify(), self._seen
        self._seen = here
        if here == before or (not here and before):
            return
        moved = not here.startswith(self._here)
        self._here = here
        self._manager.network = self._manager.track.store.network_id(here)
        if moved:
            self._forget()
        if moved or before == b"":
            self.revalidate()

    def revalidate(self) -> None:
        """Things changed: probe every tunnel now, and let who failed before try again."""
        self._manager.fresh_start()
        for live in tuple(self._manager.tunnels):
            live.tunnel.revalidate()
            self.suspect(live)

    def doubt(self, live: LiveTunnel) -> None:
        """A stream failed: suspect the tunnel, unless it was verified just now."""
        if time.monotonic() - live.verified_at > DOUBT_AGAIN_AFTER:
            self.suspect(live)

    def suspect(self, live: LiveTunnel) -> None:
        """New streams go elsewhere, if there is somewhere, while a probe finds out."""
        if live.state is not State.UP:
            return
        live.state = State.SUSPECTED
        if not self._manager.is_up():
            self._manager.look_around()
        elif not live.tunnel.replies:
            live.give_up_openings()
        self._check(live)

    def _check(self, live: LiveTunnel) -> None:
        if live.is_probed:
            return
        live.is_probed = True
        check = asyncio.get_running_loop().create_task(self._verify(live))
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)

    def _tick(self, now: float) -> None:
        for live in tuple(self._manager.tunnels):
            live.give_up_openings(begun_before=now - OPEN_SECONDS)
            if live.state is State.UP and live.is_silent(now):
                self.suspect(live)
            elif now > live.next_idle_probe:
                pause = IDLE_PROBE if live.next_idle_probe else FIRST_LOOK
                if live.next_idle_probe:
                    live.unanswered = 0  # its users may try it again
                    self._check(live)
                live.next_idle_probe = now + random.uniform(*pause)  # noqa: S311
            self._count_freezes(live, now)

    def _count_freezes(self, live: LiveTunnel, now: float) -> None:
        if live.proven or live.tunnel.resumes:
            return
        for relay in live.relays:
            waits = relay.waiting_since and now - relay.waiting_since > FROZEN_AFTER
            if waits and relay.heard_bytes and not relay.frozen:
                relay.frozen = True
                live.freezes += 1
        if live.freezes >= MAX_FREEZES:
            reason = "probes pass, but users' traffic freezes"
            self._manager.lose(live, reason, users_failed=True)

    async def _verify(self, live: LiveTunnel) -> None:
        seconds = min(max(PROBE_SECONDS, PROBE_ROUND_TRIPS * live.rtt), LONGEST_PROBE)
        started = time.monotonic()
        failure: CircumventError | None = None
        rtt = live.rtt
        try:
            with plugin_faults(live.candidate.transport.name):
                rtt = await self._manager.track.prober.probe(live.tunnel, live.account, seconds)
        except CircumventError as error:
            failure = error
        finally:
            live.is_probed = False
        self._record(live, started, failure)
        if failure is None or live.last_heard > started:  # somebody was answered: it lives
            _acquit(live, rtt)
        elif live.tunnel.resumes and time.monotonic() - live.last_heard < RESUMES_WITHIN:
            live.next_idle_probe = time.monotonic() + PROBE_SECONDS  # suspected until then
            if self._manager.is_up():
                live.give_up_unanswered()
        else:
            self._manager.lose(live, str(failure))

    def _record(self, live: LiveTunnel, started: float, failure: CircumventError | None) -> None:
        record = attempt_record(
            "probe", live.candidate.id, started, live.account.high_water, failure
        )
        self._manager.track.store.record(record)


def _acquit(live: LiveTunnel, rtt: float) -> None:
    if live.state is State.SUSPECTED:
        live.state = State.UP
    live.rtt = min(rtt, (3 * live.rtt + rtt) / 4)  # an outlier is soon forgotten
    live.last_heard = live.verified_at = time.monotonic()
    for relay in live.relays:
        if relay.waiting_since:
            relay.patience = min(2 * relay.patience, LONGEST_PATIENCE)
