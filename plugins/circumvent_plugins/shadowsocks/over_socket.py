"""Shadowsocks over a TCP connection: a partial record stays in the kernel.

So no buffer is held between steps, unless the record chokes the kernel (docs/decisions/0006).
"""

from __future__ import annotations

from circumvent.api import Account, PeekStream
from circumvent_plugins.shadowsocks.aead import MAX_RECORD, AeadStream
from circumvent_plugins.shadowsocks.ciphers import Cipher


class AeadOverSocket(AeadStream):
    """Peeks at what came, opens whole records and discards exactly those."""

    __slots__ = ("_tcp",)

    def __init__(self, base: PeekStream, cipher: Cipher, key: bytes, account: Account) -> None:
        super().__init__(base, cipher, key, account, base.write)
        self._tcp = base
        self.record = 2 * MAX_RECORD

    def read_into(self, buffer: memoryview) -> int | None:
        self._is_choked = False
        sealed = buffer[MAX_RECORD:]
        kept = self._restore(sealed)
        count = self._tcp.peek_into(sealed[kept:])
        if not count:
            return self._end(count)
        count += kept
        at, plain = self._open_records(sealed[:count], buffer)
        if at:
            self._tcp.discard(at - kept)
            self._forget_kept()
        if not (plain and self._tcp.ended):  # whole records are returned before the error
            self._expect(sealed[at:count])
        return plain or None

    def _end(self, count: int | None) -> int | None:
        if count is None:
            self._tcp.expect(self._missing() - self._kept_size if self._is_inside else 1)
        elif self._is_inside:
            self._cut()
        return count

    def _expect(self, partial: memoryview) -> None:
        """Sleep until the record that starts with ``partial`` is whole."""
        if not partial:
            self._tcp.expect(1)
        elif len(partial) < self._missing():  # else the buffer was full: read on at once
            if self._tcp.ended:
                self._cut()
            if self._tcp.starved:
                self._keep(partial)
            self._tcp.expect(1 if self._is_choked else self._missing() - self._kept_size)

    def _keep(self, partial: memoryview) -> None:
        """Take a partial record out of the kernel; if there is no memory for it, a little later.

        Its last bytes may pin a whole receive buffer's worth of kernel memory, so that nothing
        more is taken in and the record would never become whole.
        """
        kept = self._hold()
        if kept is not None:
            kept.view[: len(partial)] = partial
            self._tcp.discard(len(partial) - self._kept_size)
            self._kept_size = len(partial)
