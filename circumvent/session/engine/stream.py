"""One stream of a session: its two directions, and what is queued or held for it.

The directions are independent (RFC 9000 §3 has the same state machine). An idle stream has no
queues at all, because thousands of streams may be open.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from circumvent.errors import ProtocolError
from circumvent.memory import Lease
from circumvent.wire.frames import ResetReason


class Sending(Enum):
    """Our direction."""

    OPEN = auto()
    ENDED = auto()  # FIN was made: no more data
    CUT = auto()  # RESET was made: what is unacknowledged is dropped


class Receiving(Enum):
    """The peer's direction."""

    OPEN = auto()
    SIZED = auto()  # FIN came: the length is known
    STOPPED = auto()  # we read no more: data that comes is dropped
    CUT = auto()  # RESET came


class StreamEvent(Enum):
    """What changes a direction."""

    END = auto()
    CUT = auto()
    STOP = auto()


SENDING: dict[tuple[Sending, StreamEvent], Sending] = {
    (Sending.OPEN, StreamEvent.END): Sending.ENDED,
    (Sending.OPEN, StreamEvent.CUT): Sending.CUT,
    (Sending.ENDED, StreamEvent.CUT): Sending.CUT,
}
RECEIVING: dict[tuple[Receiving, StreamEvent], Receiving] = {
    (Receiving.OPEN, StreamEvent.END): Receiving.SIZED,
    (Receiving.OPEN, StreamEvent.CUT): Receiving.CUT,
    (Receiving.OPEN, StreamEvent.STOP): Receiving.STOPPED,
    (Receiving.SIZED, StreamEvent.CUT): Receiving.CUT,
    (Receiving.SIZED, StreamEvent.STOP): Receiving.STOPPED,
    (Receiving.STOPPED, StreamEvent.CUT): Receiving.CUT,
}  # other pairs change nothing: control frames may come twice and late


class Frame:
    """A reliable frame until it is acknowledged; ``view`` is all of it, header and payload.

    Or a run of full DATA frames of one stream, which stay together: that saves work for each.
    ``carrier`` is the number of the carrier that sent it, 0 while it is queued. ``is_fresh``: no
    carrier has sent it, so it may still grow. ``is_settled``: it was acknowledged or dropped and
    has no block any more; it may still stand in a queue.
    """

    __slots__ = ("carrier", "is_fresh", "is_settled", "lease", "size", "stream", "view")

    def __init__(
        self, stream: EngineStream | None, view: memoryview | bytes, lease: Lease | None
    ) -> None:
        self.stream = stream
        self.view = view
        self.size = len(view)
        self.lease = lease
        self.carrier = 0
        self.is_fresh = True
        self.is_settled = False


class Outbox:
    """Frames of a stream that wait for a carrier."""

    __slots__ = ("frames", "size")

    def __init__(self) -> None:
        self.frames: deque[Frame] = deque()
        self.size = 0


class Piece:
    """Received bytes: those of ``lease`` from ``start`` to ``end``."""

    __slots__ = ("end", "lease", "start")

    def __init__(self, lease: Lease, count: int) -> None:
        self.lease = lease
        self.start = 0
        self.end = count


class Inbox:
    """Unread data: ``pieces`` in order, and ``gaps``: pieces beyond a gap, by their offset.

    ``loans`` follow on ``pieces``: bytes that still lie in the block of the carrier's reader.
    ``high`` is the end of the furthest byte received, ``size`` counts bytes that are in order.
    """

    __slots__ = ("gaps", "high", "loans", "moved_at", "pieces", "size")

    def __init__(self, high: int, now: float) -> None:
        self.pieces: deque[Piece] = deque()
        self.loans: deque[memoryview] = deque()
        self.gaps: dict[int, Piece] = {}
        self.high = high
        self.size = 0
        self.moved_at = now


class EngineStream:
    """State of one stream. ``final`` is the peer's last offset once known, else -1.

    ``is_open``: whether OPEN was received; data that overtook it is kept like any other.
    ``waits_to_read`` and ``waits_to_write``: whether a reader or writer wants to be woken.
    """

    __slots__ = (
        "final",
        "granted",
        "inbox",
        "is_open",
        "number",
        "outbox",
        "owner",
        "reason",
        "received",
        "receiving",
        "send_limit",
        "sending",
        "sent",
        "unacked",
        "waits_to_read",
        "waits_to_write",
    )

    def __init__(self, number: int, send_limit: int, granted: int) -> None:
        self.number = number
        self.sending = Sending.OPEN
        self.receiving = Receiving.OPEN
        self.sent = 0
        self.send_limit = send_limit
        self.unacked = 0
        self.outbox: Outbox | None = None
        self.received = 0
        self.granted = granted
        self.final = -1
        self.is_open = False
        self.inbox: Inbox | None = None
        self.reason: ResetReason | None = None
        self.owner: object = None
        self.waits_to_read = False
        self.waits_to_write = False

    @property
    def high(self) -> int:
        """The end of the furthest byte received."""
        return self.inbox.high if self.inbox is not None else self.received

    @property
    def consumed(self) -> int:
        """The offset up to which it was read."""
        return self.received - self.inbox.size if self.inbox is not None else self.received

    @property
    def is_readable(self) -> bool:
        """Whether a read brings data, the end or an error."""
        if self.inbox is not None and self.inbox.size:
            return True
        return self.receiving in (Receiving.CUT, Receiving.STOPPED) or self.is_at_end

    @property
    def is_at_end(self) -> bool:
        """Whether all of the peer's direction was read."""
        return self.final >= 0 and self.consumed == self.final

    @property
    def is_over(self) -> bool:
        """Whether both directions are done."""
        if self.sending is Sending.OPEN or self.unacked:
            return False
        return self.receiving is Receiving.CUT or self.is_at_end

    @property
    def is_given_up(self) -> bool:
        """Whether the peer reset the stream. One that only ended its direction still wants ours."""
        return self.receiving is Receiving.CUT or self.is_over

    def send_event(self, event: StreamEvent) -> bool:
        """Change our direction; False when the event changes nothing."""
        after = SENDING.get((self.sending, event))
        if after is not None:
            self.sending = after
        return after is not None

    def receive_event(self, event: StreamEvent) -> bool:
        """Change the peer's direction; False when the event changes nothing."""
        after = RECEIVING.get((self.receiving, event))
        if after is not None:
            self.receiving = after
        return after is not None

    def settle_size(self, final: int) -> None:
        """Set where the peer's direction ends; raises ProtocolError when that cannot be."""
        if self.final not in (-1, final) or final < self.high:
            raise ProtocolError("session: a stream's final size changed", stage="frame")
        self.final = final
