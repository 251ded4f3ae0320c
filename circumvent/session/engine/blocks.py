"""Blocks for frames: hold leases of a few sizes, for one direction of a session."""

from __future__ import annotations

from circumvent.memory import PAGE, Account, Lease
from circumvent.wire.frames import MAX_FRAME, RUNS

_SIZES = (PAGE, MAX_FRAME, *(frames * MAX_FRAME for frames in sorted(RUNS)))


class Blocks:
    """Leases blocks for a frame or for a run of frames (RUNS), at most ``limit`` bytes at a time.

    ``is_dry``: the arena had no block although the limit allowed one. It stays so until a block
    is given back or ``retry`` is called.
    """

    __slots__ = ("_account", "is_dry", "limit", "used")

    def __init__(self, account: Account, limit: int) -> None:
        self._account = account
        self.limit = limit
        self.used = 0
        self.is_dry = False

    @property
    def free(self) -> int:
        """Bytes that ``take`` can probably lease."""
        return 0 if self.is_dry else self.limit - self.used

    def take(self, size: int) -> Lease | None:
        """A block of at least ``size`` bytes, or None while there is no room."""
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

    def retry(self) -> None:
        """Ask the arena again next time: others may have given memory back."""
        self.is_dry = False
