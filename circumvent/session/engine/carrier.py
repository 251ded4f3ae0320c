"""One carrier as the engine sees it: what is on the way, what arrived, and whether it is alive.

A carrier is ordered and reliable while it lives, so one cumulative count of bytes acknowledges
everything on it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from circumvent.errors import ProtocolError
from circumvent.session.engine.estimate import Estimate
from circumvent.session.engine.limits import (
    ACK_BYTES,
    ACK_DELAY,
    PING_AFTER,
    PONG_PATIENCE,
    RECONSIDER,
)
from circumvent.session.engine.stream import Frame
from circumvent.wire.frames import MAX_FRAME

NEVER = math.inf
_NOT_ASKED = 1.5 * RECONSIDER  # a carrier that can write is asked so often while frames wait
_FRAMES = 3  # a socket that just took one is not writable again before it sent about so many
MICROSECONDS = 1_000_000


class CarrierState(Enum):
    """A suspected carrier may recover; a dead one does not."""

    UP = "up"
    SUSPECT = "suspected"
    DEAD = "dead"


class Flight(NamedTuple):
    """Frames written together: up to which byte, when, and what had arrived by then."""

    end: int
    at: float
    delivered: int
    delivered_at: float
    is_bound_by_path: bool


class EngineCarrier:
    """State of one carrier; ``number`` is unique in its session. Times in seconds."""

    __slots__ = (
        "ack_due",
        "acked",
        "ask_until",
        "bytes_in",
        "bytes_out",
        "declined_until",
        "delivered_at",
        "estimate",
        "flights",
        "frames",
        "is_answered",
        "is_asked",
        "must_ack",
        "must_ping",
        "number",
        "ping_after",
        "ping_at",
        "ping_nonce",
        "ping_sent_at",
        "pinged_at",
        "pong",
        "progress_at",
        "ready_at",
        "received",
        "received_acked",
        "received_at",
        "seen_at",
        "sent",
        "settled",
        "state",
        "suspected_at",
    )

    def __init__(self, number: int, rtt: float, now: float) -> None:
        self.number = number
        self.state = CarrierState.UP
        self.estimate = Estimate(rtt, now)
        self.frames: deque[Frame] = deque()
        self.flights: deque[Flight] = deque()
        self.sent = self.acked = self.settled = 0
        self.delivered_at = self.progress_at = self.seen_at = self.ready_at = now
        self.received = self.received_acked = 0
        self.received_at = now
        self.declined_until = 0.0
        self.ack_due = NEVER
        self.must_ack = False
        self.must_ping = False
        self.ping_after = PING_AFTER
        self.ping_at = now + PING_AFTER
        self.pinged_at = self.ping_sent_at = NEVER
        self.ping_nonce = -1
        self.pong: int | None = None
        self.suspected_at = NEVER
        self.ask_until = NEVER
        self.is_asked = self.is_answered = False
        self.bytes_in = self.bytes_out = 0

    @property
    def unacked(self) -> int:
        """Reliable bytes on the way."""
        return self.sent - self.acked

    @property
    def allowance(self) -> int:
        """Bytes that may be added to those on the way; one frame always may if there are none."""
        return self.estimate.cap - self.sent + self.acked

    @property
    def suspect_at(self) -> float:
        """When it will be suspected if nothing happens."""
        at = self.pinged_at + PONG_PATIENCE + self.estimate.patience
        if self.unacked:
            at = min(at, self.progress_at + self.estimate.patience)
        return at

    @property
    def ask_at(self) -> float:
        """When to send ASK about it on another carrier, so that the answer precedes suspicion."""
        if self.is_asked or not self.unacked:
            return NEVER
        return self.progress_at + self.estimate.patience / 2

    def arrival(self, now: float, since: float) -> float:
        """Estimated seconds until a byte that it takes now arrives.

        Bytes on the way beyond what the path itself holds stand in a queue. A carrier that could
        have taken frames ``since`` then, and did not, is held up by something that we do not see.
        """
        estimate = self.estimate
        path, rate, unacked = estimate.base_rtt, estimate.rate, self.sent - self.acked
        queued = unacked / rate - path - ACK_DELAY
        held_up = now - max(since, self.ready_at) - _FRAMES * MAX_FRAME / rate - _NOT_ASKED
        if unacked:  # overdue progress: a queue that the rate does not show
            late = now - self.progress_at - estimate.srtt - ACK_DELAY
            if late > held_up:
                held_up = late
        if held_up > queued:
            queued = held_up
        return queued + path / 2 if queued > 0.0 else path / 2

    # --- sent data --------------------------------------------------------------------------

    def launch(self, count: int, now: float, *, is_bound_by_path: bool) -> None:
        """``count`` bytes of reliable frames, already in ``frames``, were written."""
        if self.sent == self.acked:  # was idle: the clocks start anew
            self.delivered_at = self.progress_at = now
        self.sent += count
        self.flights.append(Flight(self.sent, now, self.acked, self.delivered_at, is_bound_by_path))

    def acknowledge(self, count: int) -> Sequence[Frame]:
        """The peer received ``count`` bytes in all; returns the frames that arrived.

        Raises ProtocolError when that is more than was sent.
        """
        if count > self.sent:
            raise ProtocolError(
                "session: bytes were acknowledged before they were sent", stage="ack"
            )
        if count <= self.acked:
            return ()
        arrived = []
        self.acked = count
        settled, frames = self.settled, self.frames
        while frames and settled + frames[0].size <= count:
            frame = frames.popleft()
            settled += frame.size
            arrived.append(frame)
        self.settled = settled
        return arrived

    def progress(self, count: int, delay: float, now: float) -> bool:
        """Measure the path by an acknowledgement that came on the carrier itself.

        Call it before ``acknowledge``. ``delay``: seconds between the arrival of the data and the
        acknowledgement. Returns False when it acknowledges nothing new.
        """
        arrived = count - self.acked
        if arrived <= 0 and not (self.flights and self.flights[0].end <= count):
            return False
        self.progress_at = now
        self.is_asked = self.is_answered = False
        flight = None
        while self.flights and self.flights[0].end <= count:
            flight = self.flights.popleft()
        if flight is not None:
            self.estimate.see_rtt(now - flight.at - delay, now)
            self._see_rate(flight, count, arrived, now)
        self.delivered_at = now
        return True

    def _see_rate(self, flight: Flight, count: int, arrived: int, now: float) -> None:
        elapsed = now - flight.delivered_at
        if elapsed > 0.0:
            self.estimate.see_rate(
                (count - flight.delivered) / elapsed,
                arrived,
                self.sent - count,
                now,
                is_bound_by_path=flight.is_bound_by_path,
            )

    # --- received data---------------------------------------------------------------------------

    def note_bytes(self, count: int, now: float) -> None:
        """``count`` bytes of any kind arrived."""
        self.bytes_in += count
        self.seen_at = now
        self.ping_at = now + self.ping_after
        self.pinged_at = NEVER

    def owe_ack(self, now: float) -> bool:
        """Reliable bytes arrived: acknowledge them soon, or at once when they are many.

        Returns True when this set a new deadline.
        """
        self.received_at = now
        pending = self.received - self.received_acked
        if pending >= ACK_BYTES:
            self.must_ack = True
        elif pending and self.ack_due == NEVER:
            self.ack_due = now + ACK_DELAY
            return True
        return False
