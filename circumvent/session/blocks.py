"""Blocks for frames: hold leases of two sizes, a few kept warm while the session is busy."""

from __future__ import annotations

from circumvent.memory import PAGE, Account, Lease
from circumvent.wire.frames import MAX_FRAME

_WARM_SHARE = 2  # part of the limit, of each size: busy sessions need them again at once


class Blocks:
    """Hands out blocks of up to MAX_FRAME bytes, ``limit`` bytes of them at once."""

    __slots__ = ("_account", "_is_dry", "_large", "_small", "limit", "used")

    def __init__(self, account: Account, limit: int) -> None:
        self._account = account
        self.limit = limit
        self.used = 0
        self._small: list[Lease] = []
        self._large: list[Lease] = []
        self._is_dry = False

    @property
    def free(self) -> int:
        """Bytes that can be hoped for."""
        return 0 if self._is_dry else self.limit - self.used

    @property
    def is_warm(self) -> bool:
        """Whether blocks are kept that nobody uses."""
        return bool(self._small or self._large)

    def take(self, size: int) -> Lease | None:
        """A block of at least ``size`` bytes, or None: try again when some came back."""
        full, warm = (PAGE, self._small) if size <= PAGE else (MAX_FRAME, self._large)
        if self.used + full > self.limit:
            return None
        lease = warm.pop() if warm else self._account.try_hold(full)
        if lease is None:
            self._is_dry = True
        else:
            self.used += full
        return lease

    def give(self, lease: Lease) -> None:
        """Take a block back."""
        full = len(lease.view)
        self.used -= full
        self._is_dry = False
        warm = self._small if full == PAGE else self._large
        if len(warm) * full < self.limit // _WARM_SHARE:
            warm.append(lease)
        else:
            lease.release()

    def trim(self) -> None:
        """Give the warm blocks back to the arena; who found it empty may look again."""
        self._is_dry = False
        for warm in (self._small, self._large):
            while warm:
                warm.pop().release()
