"""A tunnel that is up, with the facts that dispatch, health and status go by."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field

from circumvent.api.contracts import ServerEntry, Transport, Tunnel
from circumvent.api.streams import ByteStream
from circumvent.memory import Account

# A stream that carried this much proves the path: some censors freeze a flow after 16 KiB.
PROVEN_BYTES = 64 * 1024
FIRST_PATIENCE = 1.0  # seconds of silence after which a tunnel is suspected


class State(enum.Enum):
    """Suspicion is cheap and reversible; death is final, and a replacement starts anew."""

    UP = "up"
    SUSPECTED = "suspected"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server that can be tried, and how."""

    entry: ServerEntry
    transport: Transport

    @property
    def id(self) -> str:
        """The entry's id."""
        return self.entry.id


@dataclass(eq=False, slots=True)
class LiveTunnel:
    """One tunnel of the pool. Times are the loop's, in seconds; ``opened_at`` is unix time."""

    candidate: Candidate
    tunnel: Tunnel
    account: Account
    rtt: float
    state: State = State.UP
    opened_at: float = field(default_factory=time.time)
    last_heard: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    proven: bool = False
    freezes: int = 0
    relays: set[Relay] = field(default_factory=set)

    def cost(self) -> float:
        """What one more stream is expected to suffer here; round trips weighed by load."""
        return (self.rtt + 0.005) * (1 + len(self.relays) / 4)

    def abort_streams(self) -> None:
        """Cut every stream: their users notice at once and can try again."""
        for relay in tuple(self.relays):
            relay.stream.abort()


class Relay:
    """One user stream on a tunnel: what was sent and heard, and since when it waits."""

    __slots__ = (
        "client",
        "frozen",
        "heard_bytes",
        "live",
        "moved_at",
        "patience",
        "stream",
        "waiting_since",
    )

    def __init__(self, live: LiveTunnel, client: ByteStream, stream: ByteStream) -> None:
        self.live = live
        self.client = client
        self.stream = stream
        self.patience = FIRST_PATIENCE
        self.waiting_since = 0.0  # 0: not waiting
        self.moved_at = 0.0
        self.heard_bytes = 0
        self.frozen = False

    def sent(self, count: int) -> None:
        """The tunnel took ``count`` bytes."""
        self.moved_at = _now()
        self.live.bytes_up += count
        if not self.waiting_since:
            self.waiting_since = self.moved_at

    def heard(self, count: int) -> None:
        """The client took ``count`` bytes that came through the tunnel."""
        live = self.live
        self.moved_at = live.last_heard = _now()
        self.waiting_since = 0.0
        live.bytes_down += count
        self.heard_bytes += count
        if self.heard_bytes >= PROVEN_BYTES:
            live.proven = True


def _now() -> float:  # the clock of asyncio loops, without asking which loop
    return time.monotonic()
