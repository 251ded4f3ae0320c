"""Bytes that a layer itself has to send: alerts, pongs, what its base did not take at once."""

from __future__ import annotations

import contextlib

from circumvent.api.streams import ByteStream
from circumvent.errors import StreamResetError


class Backlog:
    """A few bytes that wait for ``base``; the layer that adds to them keeps them few."""

    __slots__ = ("_base", "_waiting")

    def __init__(self, base: ByteStream) -> None:
        self._base = base
        self._waiting = b""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, data: bytes) -> None:
        """Add ``data`` behind what waits."""
        self._waiting += data

    def room(self) -> int:
        """What the base has room for once nothing waits here; 0 before that."""
        with contextlib.suppress(StreamResetError):  # the next write will raise it
            if self._waiting and not self.flush():
                return 0
        return self._base.room()

    def pass_on(self, block: memoryview, start: int, end: int) -> None:
        """Write to the base; what it does not take waits here, few bytes if it has room."""
        start += self._base.write(block, start, end)
        if start < end:
            self.add(bytes(block[start:end]))

    def flush(self) -> bool:
        """Send on what the base holds, then what waits; True when nothing is left.

        Raises StreamResetError.
        """
        while self._base.flush():
            if not self._waiting:
                return True
            if not self._base.room():
                return False
            self._offer()
        return False

    def _offer(self) -> None:
        front = self._base.headroom
        block = memoryview(bytearray(front + len(self._waiting)))
        block[front:] = self._waiting
        taken = self._base.write(block, front, len(block))
        self._waiting = self._waiting[taken:]
