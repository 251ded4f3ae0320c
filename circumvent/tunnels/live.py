"""A tunnel that is up, with the facts that dispatch, health and status go by.

Times are those of ``Clock.now``, in seconds.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field

from circumvent.api import Privacy, Tunnel
from circumvent.api.streams import ByteStream
from circumvent.errors import CircumventError, DestinationError
from circumvent.memory import Account
from circumvent.net.clock import SYSTEM_CLOCK, Clock
from circumvent.net.patience import Patience
from circumvent.tunnels.candidate import Candidate
from circumvent.tunnels.timings import StreamTimings
from circumvent.wire.address import Destination

# A stream that carried this much proves the path: some censors freeze a flow after 16 KiB.
PROVEN_BYTES = 64 * 1024


# Strikes, in a row, that end a last resort: streams that brought nothing. The fewer where none ever
# brought anything; one alone may have asked a dead destination.
MAX_IN_VAIN, MAX_IN_VAIN_AT_FIRST = 3, 2
LAST_RESORT = "its probe page cannot be reached through it; it is judged by what passes"
UNKNOWN_RTT = 0.5  # seconds, where no probe has measured it


class TunnelState(enum.Enum):
    """Suspicion is cheap and reversible; death is final, and a replacement starts anew."""

    UP = "up"
    SUSPECTED = "suspected"
    DEAD = "dead"


@dataclass(eq=False, slots=True)
class LiveTunnel:
    """One tunnel of the pool; ``opened_at`` is unix time.

    ``charged`` bytes pay for its probes, so that a verdict never waits for memory. ``unanswered``
    counts streams in a row that sent something and ended without an answer. ``misses`` counts
    probes in a row that failed although the server itself answered. ``silent_since`` is when its
    probes began to time out; 0: the last one did not. Since ``works_since`` something came through
    it every few seconds; infinite while nothing does. ``is_last_resort``: the server proved itself,
    but no probe has passed.
    """

    candidate: Candidate
    tunnel: Tunnel
    account: Account
    rtt: float
    charged: int
    clock: Clock = SYSTEM_CLOCK
    timings: StreamTimings = field(default_factory=StreamTimings)
    is_last_resort: bool = False
    state: TunnelState = TunnelState.UP
    opened_at: float = field(init=False)
    last_received: float = field(init=False)
    last_opened: float = field(init=False)
    verified_at: float = 0.0
    next_idle_probe: float = 0.0
    is_probed: bool = False
    bytes_up: int = 0
    bytes_down: int = 0
    proven: bool = False
    freezes: int = 0
    unanswered: int = 0
    misses: int = 0
    silent_since: float = 0.0
    works_since: float = math.inf
    streams: set[UserStream] = field(default_factory=set)
    privacy: Privacy = field(init=False)
    stream_cost: int = field(init=False)  # bytes outside of the arena, at most
    _openings: set[Patience] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        candidate = self.candidate
        self.privacy = candidate.privacy  # both are asked for at every stream
        self.stream_cost = candidate.transport.cost(candidate.entry).stream
        self.opened_at = self.clock.wall()
        self.last_received = self.last_opened = self.clock.now()

    def cost(self) -> float:
        """What one more stream is expected to suffer here: round trips weighed by load.

        A server that answers probes but not its users, several times in a row, is no bargain.
        """
        load = (len(self.streams) + len(self._openings)) / 4
        return (self.rtt + 0.005) * (1 + load + self.unanswered**2)

    @property
    def is_sure(self) -> bool:
        """Whether a probe has passed through it, and nothing is held against it."""
        return self.state is TunnelState.UP and not self.is_last_resort

    @property
    def is_doubtful(self) -> bool:
        """Whether new streams do better elsewhere: suspected, or waiting for its connections."""
        if self.state is not TunnelState.UP:
            return True
        return self.tunnel.resumes and not any(
            carrier.state == TunnelState.UP.value for carrier in self.tunnel.carriers
        )

    @property
    def is_idle(self) -> bool:
        """Whether nobody uses it."""
        return not (self.streams or self._openings)

    def is_silent(self, now: float, slack: float = 0.0) -> bool:
        """Whether somebody waits for it too long while nobody else is served.

        ``slack``: seconds that everything takes longer now, whoever is asked.
        """
        opening = max((patience.waited(now) for patience in self._openings), default=0.0)
        last_sign = max(self.last_opened, self.last_received)
        return min(now - last_sign, opening) > self.timings.patience + slack or any(
            stream.waits(now) > stream.patience + slack for stream in self.streams
        )

    async def open(self, destination: Destination, patience: Patience) -> ByteStream:
        """Open a stream; ``give_up_openings`` may end the ``patience`` around it."""
        self._openings.add(patience)
        try:
            stream = await self.tunnel.open(destination)
        finally:
            self._openings.remove(patience)
        self.last_opened = self.clock.now()
        return stream

    def acquit(self, rtt: float, now: float) -> None:
        """It works: a probe came back after ``rtt`` seconds, or a user's stream was answered."""
        self.misses = 0
        self.silent_since = 0.0
        if self.state is TunnelState.SUSPECTED:
            self.state = TunnelState.UP
        self.rtt = min(rtt, (3 * self.rtt + rtt) / 4)  # an outlier is soon forgotten
        self.last_received = self.verified_at = now
        self.be_patient()

    def is_in_vain(self, now: float) -> bool:
        """Whether its users get nothing through it, several of them in a row."""
        patience = self.timings.in_vain
        waiting = sum(
            not stream.received_bytes and stream.waits(now) > patience for stream in self.streams
        )
        most = MAX_IN_VAIN if self.bytes_down else MAX_IN_VAIN_AT_FIRST
        return self.unanswered + waiting >= most

    def be_patient(self) -> None:
        """Streams that wait are waited for twice as long, before the next probe."""
        for stream in self.streams:
            if stream.waiting_since:
                stream.patience = min(2 * stream.patience, self.timings.longest_patience)

    def give_up_openings(self, longer_than: float = -math.inf) -> None:
        """Nothing of a user's was sent yet: other tunnels can be tried at once."""
        now = self.clock.now()
        for patience in self._openings:
            if patience.waited(now) > longer_than:
                patience.end()

    def give_up_flights(self) -> None:
        """What may be sent twice goes to another tunnel at once."""
        for stream in tuple(self.streams):
            if stream.flight:
                stream.stream.abort()

    def give_up_unanswered(self) -> None:
        """Another tunnel is up: streams that received nothing need not wait for this one.

        What may not be sent twice is cut after a while: then its user can try again, and knows
        that the first try may have arrived.
        """
        self.give_up_flights()
        now = self.clock.now()
        for stream in tuple(self.streams):
            waited = now - stream.moved_at if stream.waiting_since else 0.0
            if not stream.received_bytes and waited > self.timings.unanswered:
                stream.stream.abort()

    def abort_streams(self) -> None:
        """Cut every stream: their users notice at once and can try again."""
        self.give_up_openings()
        for stream in tuple(self.streams):
            stream.stream.abort()

    async def close(self) -> None:
        """Close the tunnel and give its memory back; idempotent."""
        await self.tunnel.aclose()
        charged, self.charged = self.charged, 0
        self.account.discharge(charged)


class UserStream:
    """One user stream on a tunnel: what was sent and received, and since when it waits.

    ``flight`` bytes of the client were sent but not yet read from it: they may be sent again.
    ``client`` is None where somebody else than the dispatcher pumps.
    """

    __slots__ = (
        "ask_from",
        "asked_at",
        "client",
        "error",
        "flight",
        "is_clients_fault",
        "live",
        "moved_at",
        "now",
        "over",
        "patience",
        "received_bytes",
        "started",
        "stream",
        "waiting_since",
        "was_asked",
    )

    def __init__(self, live: LiveTunnel, stream: ByteStream, client: ByteStream | None) -> None:
        self.live = live
        self.client = client
        self.stream = stream
        self.flight = 0
        self.now = live.clock.now  # called at every step
        self.patience = live.timings.patience
        self.waiting_since = 0.0  # 0: not waiting
        self.was_asked = False
        self.started = self.moved_at = self.now()
        self.received_bytes = 0
        self.asked_at = 0.0  # since when its path is asked for a sign; 0: it is not
        self.ask_from = 0.0
        self.over = False
        self.error: CircumventError | None = None
        self.is_clients_fault = False

    def sent(self, count: int) -> None:
        """The tunnel took ``count`` bytes."""
        self.moved_at = self.now()
        self.live.bytes_up += count
        if not (self.waiting_since or self.over):
            self.waiting_since = self.moved_at
            self.was_asked = True

    def received(self, count: int) -> None:
        """The client took ``count`` bytes that came through the tunnel."""
        live = self.live
        self.moved_at = live.last_received = self.now()
        self.waiting_since = 0.0
        self.patience = live.timings.patience
        live.bytes_down += count
        live.unanswered = 0
        self.received_bytes += count
        if self.received_bytes >= PROVEN_BYTES:
            live.proven = True

    def ended(self) -> None:
        """Nothing more will come: from now on it does not wait."""
        self.over = True
        self.waiting_since = 0.0

    def waits(self, now: float) -> float:
        """Seconds that it waits for an answer while nothing comes through the tunnel."""
        return now - max(self.waiting_since, self.live.last_received) if self.waiting_since else 0.0

    def fail(self, error: CircumventError, *, is_clients_fault: bool) -> None:
        """Note what broke the stream; later errors are its consequences."""
        if self.error is None:
            self.error = error.bare()
            self.is_clients_fault = is_clients_fault

    @property
    def is_unanswered(self) -> bool:
        """Whether something was sent, and it ended without an answer and without an error."""
        return self.error is None and not self.received_bytes and self.was_asked

    @property
    def is_tunnels_fault(self) -> bool:
        """Whether it broke, and the client, the destination and this machine did not cause it."""
        if self.error is None or self.is_clients_fault:
            return False
        return not (self.error.is_own_trouble or isinstance(self.error, DestinationError))

    def cut(self) -> None:
        """Break both sides."""
        if self.client is not None:
            self.client.abort()
        self.stream.abort()
