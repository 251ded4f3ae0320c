"""Health: which tunnels are suspected and probed, and which are dead.

A tunnel is suspected when a stream waits for an answer while no other stream of the same tunnel
receives anything. A probe then decides: so a slow destination never fails a tunnel over. Queues
that we fill ourselves, turns that we wait for, a machine that stood still or lacks something: none
of these is held against a tunnel.
"""

from __future__ import annotations

import asyncio
import errno
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from circumvent.api import Privacy
from circumvent.errors import CircumventError, StreamResetError
from circumvent.net.patience import Patience
from circumvent.state.attempts import attempt_record
from circumvent.state.store import Store
from circumvent.tasks import dismiss
from circumvent.tunnels.faults import plugin_faults
from circumvent.tunnels.live import (
    PROVEN_BYTES,
    LiveTunnel,
    TunnelState,
    UserStream,
)
from circumvent.tunnels.manager import TunnelManager
from circumvent.tunnels.relief import relieve
from circumvent.tunnels.verdict import MAX_MISSES, ProbeFacts, ProbeVerdict, is_page_gone, judge
from circumvent.tunnels.vitals import is_frozen, queueing, unanswered

PROBE_ROUND_TRIPS = 4  # to the page and back: TCP, TLS, and the question
MAX_FREEZES = 3  # as many flows that froze early, and none that passed 64 KiB: all would
_SILENCE = (errno.ETIMEDOUT, errno.EHOSTUNREACH)


@dataclass(slots=True)
class _Trial:
    """A probe that runs, and whether other tunnels received anything when it began."""

    patience: Patience
    started: float
    began_fair: bool = False
    others_asked: bool = False


class Health:
    """Watches the manager's tunnels.

    ``identify`` returns the raw name of the current network, empty where there is none; ``forget``
    drops what was learnt on the old one.
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
        self._clock = manager.context.clock
        self._timings = manager.context.timings.health
        self._probe = manager.context.timings.probe
        self._vitals = manager.context.timings.vitals
        self._here = b""
        self._seen: bytes | None = None  # at the last look
        self._look_for_freezes_at = 0.0
        self._stood_still_at = 0.0
        self._trials: dict[LiveTunnel, _Trial] = {}
        self._checks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Tick until cancelled."""
        try:
            while True:
                before, due = self._clock.wall(), self._clock.now() + self._timings.tick
                await asyncio.sleep(self._timings.tick)
                now = self._clock.now()
                if now - due > self._timings.late:
                    self._stood_still(now)
                self._tick(now)
                relieve(self._manager, now)
                if self._clock.wall() - before > self._timings.wall_clock_jump:
                    self.revalidate()
        finally:
            await dismiss(self._checks)

    def look_at_network(self) -> None:
        """Find out which network this is; a new one revalidates every tunnel at once.

        A name that only became longer is that of the same network. To have no network may pass:
        when it is back, the tunnels are probed, but nothing is forgotten.
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
        """The network changed: probe every tunnel now, and end every back-off."""
        self._manager.forget_failures()
        for live in tuple(self._manager.tunnels):
            live.tunnel.revalidate()
            self.suspect(live)

    def doubt(self, live: LiveTunnel) -> None:
        """A stream failed: suspect the tunnel, unless it was verified just now."""
        if self._clock.now() - live.verified_at > self._probe.doubt_again_after:
            self.suspect(live)

    def suspect(self, live: LiveTunnel) -> None:
        """New streams go elsewhere, if there is somewhere, while a probe finds out."""
        if live.state is not TunnelState.UP:
            return
        live.state = TunnelState.SUSPECTED
        if not self._manager.is_up():
            self._manager.try_others()
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
        """The machine slept or was busy: what came meanwhile is only read now."""
        self._stood_still_at = now
        for live in self._manager.tunnels:
            live.last_received = now
            live.silent_since = 0.0
            live.works_since = math.inf

    def _tick(self, now: float) -> None:
        slack = self._slack(now)
        for live, trial in tuple(self._trials.items()):
            trial.patience.allow(self._probe_seconds(live) + slack)
            self._compare_with_others(live, trial, now)
        for live in tuple(self._manager.tunnels):
            live.give_up_openings(longer_than=self._longest_opening(live) + slack)
            if live.state is TunnelState.UP and live.is_silent(now, slack):
                self.suspect(live)
            elif now > live.next_idle_probe:
                pause = self._probe.idle if live.next_idle_probe else self._probe.first
                if live.next_idle_probe:
                    live.unanswered = 0  # its users may try it again
                    self._check(live)
                live.next_idle_probe = now + random.uniform(*pause)  # noqa: S311
        if now > self._look_for_freezes_at:
            self._look_for_freezes_at = now + self._timings.look_for_freezes
            for live in tuple(self._manager.tunnels):
                self._cut_frozen_streams(live, now)

    def _longest_opening(self, live: LiveTunnel) -> float:
        is_left = (
            live.state is not TunnelState.UP and not live.tunnel.replies and self._manager.is_up()
        )
        return live.timings.patience if is_left else self._timings.open_seconds

    def _compare_with_others(self, live: LiveTunnel, trial: _Trial, now: float) -> None:
        waited = now - trial.started
        if waited < self._probe.fair_within:
            trial.began_fair |= self._others_received(live, live.silent_since or trial.started)
        elif waited > self._probe.late and not trial.others_asked:
            trial.others_asked = True
            if not self._others_received_late(live, trial):
                for other in self._manager.tunnels:
                    if other is not live and other.state is TunnelState.UP:
                        self._check(other)

    def _others_received(self, live: LiveTunnel, since: float) -> bool:
        others = (other for other in self._manager.tunnels if other is not live)
        return any(other.last_received > since for other in others)

    def _slack(self, now: float) -> float:
        """Seconds that all answers take longer now; looked up only where a tunnel is in doubt."""
        tunnels = self._manager.tunnels
        if not self._trials and not any(live.is_silent(now) for live in tunnels):
            return 0.0
        return self._queues()

    def _queues(self) -> float:
        queue = queueing(self._manager.tunnels, self._vitals)
        return PROBE_ROUND_TRIPS * min(queue, self._timings.longest_queue)

    def _cut_frozen_streams(self, live: LiveTunnel, now: float) -> None:
        if now - live.last_received > self._timings.works_for:
            live.works_since = math.inf
        else:
            live.works_since = min(live.works_since, live.last_received)
        for stream, vitals in unanswered(live, now, self._vitals):
            if vitals.unanswered and now - live.last_received > self._timings.works_for / 2:
                self._check(live)  # whether only some paths died
            asked_for, works_for = now - stream.asked_at, now - live.works_since
            patience = self._vitals.frozen_after + self._queues()
            if not is_frozen(vitals, asked_for, works_for, patience):
                continue
            live.freezes += self._froze_early(stream)
            message = "its path froze: the server's own system does not answer any more"
            stream.fail(StreamResetError(message, stage="freeze"), is_clients_fault=False)
            stream.stream.abort()
        if live.freezes >= MAX_FREEZES and not live.proven:
            reason = "probes pass, but users' traffic freezes"
            self._manager.lose(live, reason, users_failed=True)

    async def _verify(self, live: LiveTunnel) -> None:
        started = self._clock.now()
        trial = self._trials[live] = _Trial(Patience(self._probe_seconds(live)), started)
        failure: CircumventError | None = None
        rtt = live.rtt
        try:
            with plugin_faults(live.candidate.transport.name):
                rtt = await self._manager.context.prober.probe(
                    live.tunnel, live.account, trial.patience
                )
        except CircumventError as error:
            failure = error.bare()
        finally:
            live.is_probed = False
            del self._trials[live]
        peak = live.account.high_water
        record = attempt_record(
            "probe", live.candidate.id, started, peak, failure, clock=self._clock
        )
        self._store.attempts.record(record)
        if live.state is not TunnelState.DEAD:
            self._act_on(live, trial, rtt, failure)

    def _act_on(
        self, live: LiveTunnel, trial: _Trial, rtt: float, failure: CircumventError | None
    ) -> None:
        now = self._clock.now()
        verdict = judge(self._facts(live, trial, failure, now))
        match verdict:
            case ProbeVerdict.WELL:
                live.acquit(rtt, now)
                if live.is_last_resort and failure is None:
                    self._manager.prove(live)
            case ProbeVerdict.RESUMING:
                live.next_idle_probe = now + self._probe.least  # suspected until then
                if self._manager.is_up():
                    live.give_up_unanswered()
            case ProbeVerdict.UNDECIDED | ProbeVerdict.MISSED:
                live.misses += verdict is ProbeVerdict.MISSED
                live.next_idle_probe = now + self._probe.again
            case ProbeVerdict.ALL_SILENT:
                self._wait_in_silence(live, trial, now)
            case ProbeVerdict.PAGE_GONE:
                self._keep_last_resort(live, now)
            case ProbeVerdict.USELESS:
                reason = "no probe passes, and users get nothing through it"
                self._manager.lose(live, reason, users_failed=True)
            case ProbeVerdict.DEAD:
                self._manager.lose(live, str(failure))

    def _facts(
        self, live: LiveTunnel, trial: _Trial, failure: CircumventError | None, now: float
    ) -> ProbeFacts:
        if failure is None or live.last_received > max(trial.started, self._stood_still_at):
            return ProbeFacts(passed=True)
        overrun = trial.patience.overrun(now)
        stood_still = self._stood_still_at > trial.started or overrun > self._timings.late
        silent_since = live.silent_since or trial.started
        return ProbeFacts(
            passed=False,
            is_resuming=live.tunnel.resumes
            and now - live.last_received < self._timings.resumes_within,
            is_own_trouble=failure.is_own_trouble or stood_still,
            is_server_alive=trial.patience.answered,
            misses=live.misses,
            is_silent=trial.patience.expired or failure.errno in _SILENCE,
            is_alone=trial.began_fair and self._others_received_late(live, trial),
            is_long=now - silent_since > self._timings.all_silent,
            is_page_gone=live.privacy >= Privacy.UNVERIFIED
            and is_page_gone(
                failure, opened=trial.patience.opened, answered=trial.patience.answered
            ),
            is_last_resort=live.is_last_resort or self._serves_alone(live, now),
            is_in_vain=live.is_in_vain(now),
        )

    def _serves_alone(self, live: LiveTunnel, now: float) -> bool:
        """Whether its users got something lately, and have no better tunnel to go to."""
        is_serving = live.bytes_down and now - live.last_received < self._timings.served_within
        return live.misses >= MAX_MISSES and bool(is_serving) and not self._manager.is_up()

    def _keep_last_resort(self, live: LiveTunnel, now: float) -> None:
        """Users go on, and judge it, until there is something better."""
        live.state = TunnelState.UP
        if not live.is_last_resort:
            self._manager.demote(live)
        live.next_idle_probe = now + random.uniform(*self._probe.idle)  # noqa: S311 - no secret
        if live.is_silent(now) and len(self._manager.tunnels) > 1:
            live.give_up_flights()
        live.be_patient()
        if self._manager.is_up():
            self._manager.shed(live)

    def _wait_in_silence(self, live: LiveTunnel, trial: _Trial, now: float) -> None:
        live.silent_since = live.silent_since or trial.started
        live.state = TunnelState.SUSPECTED
        works_now = self._others_received_late(live, trial)
        live.next_idle_probe = now if works_now else now + self._probe.again
        if self._manager.is_up():
            live.give_up_flights()
        else:
            self._manager.try_others()

    def _others_received_late(self, live: LiveTunnel, trial: _Trial) -> bool:
        return self._others_received(live, trial.started + self._probe.fair_within)

    def _probe_seconds(self, live: LiveTunnel) -> float:
        return min(max(self._probe.least, PROBE_ROUND_TRIPS * live.rtt), self._probe.most)

    def _froze_early(self, stream: UserStream) -> bool:
        carried_for = stream.moved_at - stream.started
        return stream.received_bytes < PROVEN_BYTES and carried_for < self._timings.early
