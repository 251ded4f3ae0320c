"""Any stream as one whose first bytes can be looked at, and read later."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable

from circumvent.api.layer import LayerStream
from circumvent.api.streams import ByteStream, ReplayableStream
from circumvent.errors import CircumventError
from circumvent.memory import Account, Lease
from circumvent.net.readiness import NOW

MAX_HELD = 16 * 1024  # bytes: the longest head of a request, and several first flights


class ReplayStream(LayerStream, ReplayableStream):
    """Holds what was looked at until it is read; for streams that no kernel socket keeps.

    The bytes wait in a hold lease of ``account``, which is given back with the last of them. A
    look shows at most ``limit`` bytes. Looking and waiting for more may raise BudgetError, too.
    """

    __slots__ = ("_account", "_ended", "_expected", "_held", "_limit", "_size")

    def __init__(self, base: ByteStream, account: Account, limit: int = MAX_HELD) -> None:
        super().__init__(base)
        self._account = account
        self._limit = limit
        self._held: Lease | None = None
        self._size = 0  # bytes that are held
        self._expected = 1
        self._ended = False

    def wait_readable(self) -> Awaitable[None]:
        if self._ended or self._size >= self._expected:
            return NOW
        return self.base.wait_readable() if self._expected == 1 else self._wait_for_expected()

    async def _wait_for_expected(self) -> None:
        with contextlib.suppress(CircumventError):  # reading will raise it
            while self._size < min(self._expected, self._limit) and not self._ended:
                await self.base.wait_readable()
                self._fill(self._expected)

    def read_into(self, buffer: memoryview) -> int | None:
        if self._held is None:
            return self.base.read_into(buffer)
        count = self._show(buffer)
        self.discard(count)
        return count

    def peek_into(self, buffer: memoryview) -> int | None:
        self._fill(len(buffer))
        if self._held is None:
            return 0 if self._ended else None
        return self._show(buffer)

    def discard(self, count: int) -> None:
        left = self._size - count
        if self._held is not None:
            self._held.view[:left] = self._held.view[count : self._size]
        self._size = left
        self._release_if_empty()

    def expect(self, count: int) -> None:
        self._expected = count

    @property
    def ended(self) -> bool:
        return self._ended

    async def aclose(self) -> None:
        self._forget()
        await super().aclose()

    def abort(self) -> None:
        self._forget()
        super().abort()

    def _show(self, buffer: memoryview) -> int:
        count = min(self._size, len(buffer))
        if self._held is not None:
            buffer[:count] = self._held.view[:count]
        return count

    def _fill(self, wanted: int) -> None:
        """Hold ``wanted`` bytes, or all that have come; raises as ``read_into``, BudgetError."""
        wanted = min(wanted, self._limit)
        try:
            while self._size < wanted and not self._ended:
                count = self._read_more(wanted)
                if count is None:
                    break
                self._size += count
                self._ended = count == 0
        finally:
            self._release_if_empty()

    def _read_more(self, wanted: int) -> int | None:
        end = wanted + self.base.record + self.base.overhead
        return self.base.read_into(self._room(end).view[self._size : end])

    def _room(self, size: int) -> Lease:
        """A lease of at least ``size`` bytes that starts with what is held."""
        held = self._held
        if held is None:
            self._held = held = self._account.hold(size)
        elif len(held.view) < size:
            self._held = self._account.hold(size)
            self._held.view[: self._size] = held.view[: self._size]
            held.release()
            held = self._held
        return held

    def _release_if_empty(self) -> None:
        if self._held is not None and not self._size:
            self._held.release()
            self._held = None

    def _forget(self) -> None:
        self._size = 0
        self._release_if_empty()
