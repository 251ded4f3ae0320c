"""TLS 1.3 over any stream: a partial record is kept, for what was read cannot be put back."""

from __future__ import annotations

from circumvent.api.streams import ByteStream
from circumvent.layers.tls.context import cut_error
from circumvent.layers.tls.tls13_stream import Take, Tls13Stream
from circumvent.wire.tls13.connection import Connection
from circumvent.wire.tls13.records import MAX_RECORD


class Tls13OverStream(Tls13Stream):
    """Keeps the bytes of at most one partial record; the cost of TLS inside a stream has them."""

    __slots__ = ()

    def __init__(
        self, base: ByteStream, connection: Connection, kept: bytes, take_tickets: Take
    ) -> None:
        super().__init__(base, connection, kept, take_tickets)
        self.record = MAX_RECORD + max(MAX_RECORD, len(kept)) + base.record

    def read_into(self, buffer: memoryview) -> int | None:
        if self._connection.is_over:
            return self._read_after_the_last()
        wire = buffer[MAX_RECORD:]
        kept = len(self._kept)
        wire[:kept] = self._kept
        count = self._read_base(wire[kept:])
        if not count and not self._is_ready:
            if count == 0:
                raise cut_error()
            return None
        count = kept + (count or 0)
        used, size = self._open(wire[:count], buffer)
        self._kept = b"" if self._is_ready else bytes(wire[used:count])  # nothing is read any more
        if size and self._opens_one:
            self._is_ready = True  # another one may be kept
        return size or self._nothing()

    def _read_base(self, free: memoryview) -> int | None:
        """At most about one record where each is opened alone: what is behind it is kept."""
        if not self._opens_one:
            return self.base.read_into(free)
        if self._is_ready:
            return None
        return self.base.read_into(free[: max(MAX_RECORD, self.base.record)])
