"""Shadowsocks over any stream: a partial record is held in a lease."""

from __future__ import annotations

from circumvent.api import Account, ByteStream
from circumvent.layers.backlog import Backlog
from circumvent_plugins.shadowsocks.aead import MAX_PAYLOAD, MAX_RECORD, OVERHEAD, AeadStream
from circumvent_plugins.shadowsocks.ciphers import Cipher


class AeadOverStream(AeadStream):
    """Reads only when there is room for a partial record: what was read cannot be put back."""

    __slots__ = ("_backlog",)

    def __init__(self, base: ByteStream, cipher: Cipher, key: bytes, account: Account) -> None:
        self._backlog = Backlog(base)
        super().__init__(base, cipher, key, account, self._backlog.pass_on)
        self.record = 2 * MAX_RECORD + base.record

    def read_into(self, buffer: memoryview) -> int | None:
        if self._hold() is None:
            return None
        sealed = buffer[MAX_RECORD:]
        kept = self._restore(sealed)
        try:
            count = self.base.read_into(sealed[kept:])
        except BaseException:
            self._forget_kept()
            raise
        if not count:
            return self._nothing(count)
        count += kept
        at, plain = self._open_records(sealed[:count], buffer)
        self._keep(sealed[at:count])
        return plain or None

    def _nothing(self, count: int | None) -> int | None:
        if not self._kept_size:
            self._forget_kept()
        if count == 0 and self._is_inside:
            self._cut()
        return count

    def _keep(self, partial: memoryview) -> None:
        if not partial:
            self._forget_kept()
        elif self._kept is not None:
            self._kept.view[: len(partial)] = partial
            self._kept_size = len(partial)

    def room(self) -> int:
        room = self._backlog.room()
        sealed_more = OVERHEAD * (room // MAX_PAYLOAD + 1) + len(self._salt)
        return max(room - sealed_more, min(room, 1))

    def write(self, block: memoryview, start: int, end: int) -> int:
        size = min(end - start, self.room())
        return super().write(block, start, start + size) if size else 0

    def flush(self) -> bool:
        return self._backlog.flush()
