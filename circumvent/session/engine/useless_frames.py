"""A limit on frames that bring nothing new."""

from __future__ import annotations

from circumvent.errors import ProtocolError
from circumvent.session.engine.limits import MAX_USELESS, USELESS_PER_SECOND


class UselessFrames:
    """A token bucket: faults repeat some frames, a hostile peer sends nothing else."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = float(MAX_USELESS)
        self._at = now

    def count(self, now: float) -> None:
        """Count one more; raises ProtocolError when the bucket is empty."""
        self._left = min(MAX_USELESS, self._left + (now - self._at) * USELESS_PER_SECOND) - 1.0
        self._at = now
        if self._left < 0.0:
            raise ProtocolError("session: a flood of frames that bring nothing", stage="frame")
