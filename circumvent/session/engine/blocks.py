"""Blocks for frames: hold leases of a few sizes, which one half of a session has in use."""

from __future__ import annotations

from circumvent.memory import PAGE, Account, Lease
from circumvent.wire.frames import MAX_FRAME, RUNS

_SIZES = (PAGE, MAX_FRAME, *(frames * MAX_FRAME for frames in sorted(RUNS)))


class Blocks:
    """Hands out blocks for a frame or one of RUNS, ``limit`` bytes of them at once.

    ``is_dry``: others have the memory that the limit would allow; a block given back, or
    ``look_again``, ends that.
    """

    __slots__ = ("_account", "is_dry", "limit", "used")

    def __init__(self, account: Account, limit: int) -> None:
        self._account = account
        self.limit = limit
        self.used = 0
        self.is_dry = False

    @property
    def free(self) -> int:
        """Bytes that can be hoped for."""
        return 0 if self.is_dry else self.limit - self.used

    def take(self, size: int) -> Lease | None:
        """A block of at least ``size`` bytes, or None: try again when some came back."""
        for full in _SIZES:
            if size <= full:
                break
        if self.used + full > self.limit:
            return None
        lease = self._account.try_hold(full)
        if lease is not None:
            self.used += full
        elif full <= MAX_FRAME:  # where a run does not fit, its frames may
            self.is_dry = True
        return lease

    def give(self, lease: Lease) -> None:
        """Take a block back."""
        self.used -= len(lease.view)
        self.is_dry = False
        lease.release()

    def look_again(self) -> None:
        """There may be memory now."""
        self.is_dry = False
