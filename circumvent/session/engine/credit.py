"""Credit of a whole session, both ways (RFC 9000 §4.1 calls it connection flow control)."""

from __future__ import annotations

from circumvent.errors import ProtocolError
from circumvent.session.engine.limits import FIRST_CREDIT, LARGEST_FIRST_WINDOW, LEAST_WINDOW

_GRANT_SHARE = 4  # grant anew when a quarter of the window was read
_CROWD = 2  # so many open streams halve what a new one may be sent at once
_PROVEN_SHARE = 3 / 4  # of what is free, for a stream whose reader keeps up


class ReceiveCredit:
    """What the peer may send, in bytes; all numbers are sums over all streams since the beginning.

    ``window``: how far the peer may be ahead of our readers; ``extra``: added to the window for
    what stalled readers hold, so that they do not hold up the others.
    """

    __slots__ = ("consumed", "extra", "granted", "received", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.extra = 0
        self.granted = FIRST_CREDIT
        self.received = 0
        self.consumed = 0

    @property
    def free(self) -> int:
        """Bytes of the window that readers have not left unread."""
        return max(0, self.window - (self.received - self.consumed))

    @property
    def is_exhausted(self) -> bool:
        """Whether the peer can send little more."""
        return self.granted - self.received < self.window // _GRANT_SHARE

    def receive(self, count: int) -> None:
        """Count new bytes (or ones that will never come); raises ProtocolError beyond the grant."""
        self.received += count
        if self.received > self.granted:
            raise ProtocolError("session: more was sent than was granted", stage="frame")

    def grant(self) -> int | None:
        """A new absolute maximum, when it is time for one."""
        allowed = self.consumed + self.window + self.extra
        if allowed - self.granted < self.window // _GRANT_SHARE:
            return None
        self.granted = allowed
        return allowed

    def first_window(self, streams: int) -> int:
        """What a new stream may be sent at once, beside so many others."""
        share = self.free * _CROWD // (_CROWD + streams)
        return min(max(share, LEAST_WINDOW), LARGEST_FIRST_WINDOW)

    def stream_limit(self, consumed: int, granted: int) -> int | None:
        """A new limit for a stream that was read up to ``consumed``; None while the old one does.

        Twice as far as it was read: so what is not read never grows large.
        """
        proven = min(int(self.free * _PROVEN_SHARE), 2 * consumed)
        window = max(proven, LEAST_WINDOW)
        limit = consumed + window
        return limit if limit - granted >= window // _GRANT_SHARE else None


class SendCredit:
    """What we may send: ``limit`` and ``spent`` as above."""

    __slots__ = ("limit", "spent")

    def __init__(self) -> None:
        self.limit = FIRST_CREDIT
        self.spent = 0

    @property
    def free(self) -> int:
        """Bytes that may still be sent."""
        return self.limit - self.spent

    def raise_to(self, limit: int) -> bool:
        """The peer grants more; False when it does not."""
        if limit <= self.limit:
            return False
        self.limit = limit
        return True
