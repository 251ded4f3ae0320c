"""Health: who is suspected, who is probed, who is dead.

A tunnel is suspected when a stream waits without an answer while nobody else on the same
tunnel hears anything. A probe then decides: so a slow destination never fails a tunnel over. A
verdict cuts all of a tunnel's streams, so what may be our own trouble is none: queues that we
fill ourselves, turns that we wait for, a machine that stood still or lacks something.
"""

from __future__ import annotations

import asyncio
import errno
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from time import time as wall_clock

from circumvent.errors import CircumventError, StreamResetError
from circumvent.net.patience import Patience
from circumvent.state.attempts import attempt_record
from circumvent.state.store import Store
from circumvent.tasks import dismiss
from circumvent.tunnels.faults import plugin_faults
from circumvent.tunnels.live import (
    FIRST_PATIENCE,
    PROVEN_BYTES,
    LiveTunnel,
    TunnelState,
    UserStream,
)
from circumvent.tunnels.manager import TunnelManager
from circumvent.tunnels.relief import relieve
from circumvent.tunnels.vitals import is_frozen, queueing, unanswered

TICK = 0.2  # seconds; how late a suspicion may be
OPEN_SECONDS = 10.0  # the longest that a stream may take to open; a suspicion comes long before
PROBE_SECONDS = 3.0  # at least: a lost packet or a slow look-up takes one; streams leave before
PROBE_ROUND_TRIPS = 4  # to the page and back: TCP, TLS, and the question
LONGEST_PROBE = 6.0
LONGEST_QUEUE = 5.0  # seconds in a queue of ours; a probe passes it at each round trip
PROBE_AGAIN = 1.0  # seconds after one that decided nothing
MAX_MISSES = 2  # probes in a row without an answer through a server that lives itself
ALL_SILENT = 15.0  # seconds; if no tunnel gives an answer, it is our own network, and comes back
# A probe was fair if another tunnel was heard before the kernel asked again for the first time
# (a second after the first, RFC 6298 §2) and still late in its time: so the network worked.
FAIR_WITHIN = 0.7
LATE_IN_PROBE = 1.5
DOUBT_AGAIN_AFTER = 2.0  # many failing streams are one reason to probe, not many
IDLE_PROBE = (45.0, 90.0)  # seconds, drawn anew each time: no clockwork for a watcher to find
FIRST_LOOK = (3.0, 6.0)  # after the win, whose time may have been exceptional
LONGEST_PATIENCE = 30.0
RESUMES_WITHIN = 60.0  # as long as a relay keeps a session without carriers, and less
LOOK_FOR_FREEZES = 1.0  # seconds
WORKS_FOR = 4.0  # seconds after somebody heard something through a tunnel it is known to work
MAX_FREEZES = 3  # as many flows that froze early, and none that passed 64 KiB: all would
EARLY = 60.0  # seconds; what was idle for longer may have been forgotten by a router
LATE = 0.5  # seconds that a tick may be late; then the machine stood still, and nobody was silent
WALL_CLOCK_JUMP = 5.0  # the machine slept


@dataclass(slots=True)
class _Trial:
    """A probe under way, and whether others were heard when it began."""

    patience: Patience
    started: float
    began_fair: bool = False
    others_asked: bool = False


class Health:
    """Watches the manager's tunnels.

    ``identify`` names the current network, raw, and is empty where there is none; ``forget`` drops
    what was learnt on the old one.
    """

    def __init__(
        self,
        manager: TunnelManager,
        store: Store,
        identify: Callable[[], bytes],
        forget: Callable[[], None],
    ) -> None:
        self._manager = manager
        self._store = store
        self._identify = identify
        self._forget = forget
        self._here = b""
        self._seen: bytes | None = None  # at the last look
        self._look_for_freezes_at = 0.0
        self._stood_still_at = 0.0
        self._probing: dict[LiveTunnel, _Trial] = {}
        self._checks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Tick until cancelled."""
        try:
            while True:
                before, due = wall_clock(), time.monotonic() + TICK
                await asyncio.sleep(TICK)
                now = time.monotonic()
                if now - due > LATE:
                    self._stood_still(now)
                self._tick(now)
                relieve(self._manager, now)
                if wall_clock() - before > WALL_CLOCK_JUMP:
                    self.revalidate()
        finally:
            await dismiss(self._checks)

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
        self._manager.network = self._store.scores.network_id(here)
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
        if live.state is not TunnelState.UP:
            return
        live.state = TunnelState.SUSPECTED
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

    def _stood_still(self, now: float) -> None:
        """The machine slept or was too busy for us: what came meanwhile is only heard now."""
        self._stood_still_at = now
        for live in self._manager.tunnels:
            live.last_heard = now
            live.silent_since = 0.0
            live.works_since = math.inf

    def _stood_still_since(self, started: float, patience: Patience) -> bool:
        return self._stood_still_at > started or patience.overrun(time.monotonic()) > LATE

    def _tick(self, now: float) -> None:
        slack = self._slack(now)
        for live, trial in tuple(self._probing.items()):
            trial.patience.allow(_probe_seconds(live) + slack)
            self._look_for_witnesses(live, trial, now)
        for live in tuple(self._manager.tunnels):
            live.give_up_openings(longer_than=self._longest_opening(live) + slack)
            if live.state is TunnelState.UP and live.is_silent(now, slack):
                self.suspect(live)
            elif now > live.next_idle_probe:
                pause = IDLE_PROBE if live.next_idle_probe else FIRST_LOOK
                if live.next_idle_probe:
                    live.unanswered = 0  # its users may try it again
                    self._check(live)
                live.next_idle_probe = now + random.uniform(*pause)  # noqa: S311
        if now > self._look_for_freezes_at:
            self._look_for_freezes_at = now + LOOK_FOR_FREEZES
            for live in tuple(self._manager.tunnels):
                self._leave_frozen(live, now)

    def _longest_opening(self, live: LiveTunnel) -> float:
        is_left = (
            live.state is not TunnelState.UP and not live.tunnel.replies and self._manager.is_up()
        )
        return FIRST_PATIENCE if is_left else OPEN_SECONDS

    def _look_for_witnesses(self, live: LiveTunnel, trial: _Trial, now: float) -> None:
        waited = now - trial.started
        if waited < FAIR_WITHIN:
            trial.began_fair |= self._others_heard(live, live.silent_since or trial.started)
        elif waited > LATE_IN_PROBE and not trial.others_asked:
            trial.others_asked = True
            if not self._others_heard(live, trial.started + FAIR_WITHIN):
                for other in self._manager.tunnels:
                    if other is not live and other.state is TunnelState.UP:
                        self._check(other)

    def _others_heard(self, live: LiveTunnel, since: float) -> bool:
        others = (other for other in self._manager.tunnels if other is not live)
        return any(other.last_heard > since for other in others)

    def _slack(self, now: float) -> float:
        """Seconds that all answers take longer now; only asked for where somebody is doubted."""
        tunnels = self._manager.tunnels
        if not self._probing and not any(live.is_silent(now) for live in tunnels):
            return 0.0
        return self._queues()

    def _queues(self) -> float:
        return PROBE_ROUND_TRIPS * min(queueing(self._manager.tunnels), LONGEST_QUEUE)

    def _leave_frozen(self, live: LiveTunnel, now: float) -> None:
        if now - live.last_heard > WORKS_FOR:
            live.works_since = math.inf
        else:
            live.works_since = min(live.works_since, live.last_heard)
        for stream, vitals in unanswered(live, now):
            if vitals.unanswered and now - live.last_heard > WORKS_FOR / 2:
                self._check(live)  # whether only some paths died
            asked_for, works_for = now - stream.asked_at, now - live.works_since
            if not is_frozen(vitals, asked_for, works_for, self._queues()):
                continue
            live.freezes += _froze_early(stream)
            message = "its path froze: the server's own system does not answer any more"
            stream.fail(StreamResetError(message, stage="freeze"), is_clients_fault=False)
            stream.stream.abort()
        if live.freezes >= MAX_FREEZES and not live.proven:
            reason = "probes pass, but users' traffic freezes"
            self._manager.lose(live, reason, users_failed=True)

    async def _verify(self, live: LiveTunnel) -> None:
        trial = self._probing[live] = _Trial(Patience(_probe_seconds(live)), time.monotonic())
        patience, started = trial.patience, trial.started
        failure: CircumventError | None = None
        rtt = live.rtt
        try:
            with plugin_faults(live.candidate.transport.name):
                rtt = await self._manager.track.prober.probe(live.tunnel, live.account, patience)
        except CircumventError as error:
            failure = error.bare()
        finally:
            live.is_probed = False
            del self._probing[live]
        self._record(live, started, failure)
        if live.state is TunnelState.DEAD:
            return
        # Somebody was answered meanwhile: it lives.
        if failure is None or live.last_heard > max(started, self._stood_still_at):
            _acquit(live, rtt)
        elif live.tunnel.resumes and time.monotonic() - live.last_heard < RESUMES_WITHIN:
            live.next_idle_probe = time.monotonic() + PROBE_SECONDS  # suspected until then
            if self._manager.is_up():
                live.give_up_unanswered()
        elif failure.is_own_trouble or self._stood_still_since(started, patience):
            live.next_idle_probe = time.monotonic() + PROBE_AGAIN
        elif patience.answered and live.misses < MAX_MISSES:
            live.misses += 1  # it may be the pages, or its way to them
            live.next_idle_probe = time.monotonic() + PROBE_AGAIN
        elif _is_silence(failure, patience):
            self._judge_silence(live, trial, failure)
        else:
            self._manager.lose(live, str(failure))

    def _judge_silence(self, live: LiveTunnel, trial: _Trial, failure: CircumventError) -> None:
        """Who alone is silent is dead. If all are, there is nowhere to go: a cut wins nothing."""
        now = time.monotonic()
        works_now = self._others_heard(live, trial.started + FAIR_WITHIN)
        live.silent_since = live.silent_since or trial.started
        if (trial.began_fair and works_now) or now - live.silent_since > ALL_SILENT:
            self._manager.lose(live, str(failure))
            return
        live.state = TunnelState.SUSPECTED
        live.next_idle_probe = now if works_now else now + PROBE_AGAIN
        if self._manager.is_up():
            live.give_up_flights()
        else:
            self._manager.look_around()

    def _record(self, live: LiveTunnel, started: float, failure: CircumventError | None) -> None:
        record = attempt_record(
            "probe", live.candidate.id, started, live.account.high_water, failure
        )
        self._store.attempts.record(record)


def _probe_seconds(live: LiveTunnel) -> float:
    return min(max(PROBE_SECONDS, PROBE_ROUND_TRIPS * live.rtt), LONGEST_PROBE)


def _is_silence(failure: CircumventError, patience: Patience) -> bool:
    """Whether nobody said anything; what is refused or cut, somebody answered."""
    is_late = patience.overrun(time.monotonic()) >= 0.0
    return is_late or failure.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH)


def _froze_early(stream: UserStream) -> bool:
    return stream.heard_bytes < PROVEN_BYTES and stream.moved_at - stream.started < EARLY


def _acquit(live: LiveTunnel, rtt: float) -> None:
    live.misses = 0
    live.silent_since = 0.0
    if live.state is TunnelState.SUSPECTED:
        live.state = TunnelState.UP
    live.rtt = min(rtt, (3 * live.rtt + rtt) / 4)  # an outlier is soon forgotten
    live.last_heard = live.verified_at = time.monotonic()
    for stream in live.streams:
        if stream.waiting_since:
            stream.patience = min(2 * stream.patience, LONGEST_PATIENCE)
