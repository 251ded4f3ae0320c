"""TLS 1.3 over a TCP connection: a partial record stays in the kernel.

Unless it chokes it (measured: docs/decisions/0006); so no buffer is held between steps.
"""

from __future__ import annotations

from circumvent.api.streams import PeekStream
from circumvent.layers.tls.context import cut_error
from circumvent.layers.tls.tls13_stream import Take, Tls13Stream
from circumvent.wire.tls13.connection import Connection, missing
from circumvent.wire.tls13.records import MAX_RECORD


class Tls13OverSocket(Tls13Stream):
    """Peeks at what came, opens whole records and discards exactly those."""

    __slots__ = ("_tcp",)

    def __init__(
        self, base: PeekStream, connection: Connection, kept: bytes, take_tickets: Take
    ) -> None:
        super().__init__(base, connection, kept, take_tickets)
        self._tcp = base
        self.record = 2 * MAX_RECORD

    def read_into(self, buffer: memoryview) -> int | None:
        if self._connection.is_over:
            return self._read_after_the_last()
        wire = buffer[MAX_RECORD:]
        kept = len(self._kept)
        wire[:kept] = self._kept
        count = self._tcp.peek_into(wire[kept:])
        if not count and not self._is_ready:
            self._sleep(count)
            return None
        count = kept + (count or 0)
        used, size = self._open(wire[:count], buffer)
        self._drop(used)
        if size and self._opens_one:
            self._is_ready = True  # whatever lies behind
        elif not (size and self._tcp.ended):  # what is whole comes before the error
            self._expect(wire[used:count])
        return size or self._nothing()

    def stop_opening(self) -> bytes:
        self._tcp.expect(1)
        return super().stop_opening()

    def _drop(self, used: int) -> None:
        """What was opened is first what was kept."""
        kept = len(self._kept)
        if used > kept:
            self._tcp.discard(used - kept)
        if kept:
            self._kept = self._kept[used:]

    def _sleep(self, count: int | None) -> None:
        """Until the next record is whole; raises StreamResetError at the end."""
        if count == 0:
            raise cut_error()
        self._tcp.expect(missing(memoryview(self._kept)) - len(self._kept) if self._kept else 1)

    def _expect(self, partial: memoryview) -> None:
        """Sleep until the record that starts with ``partial`` is whole."""
        if self._connection.is_over:
            return
        if not partial:
            self._tcp.expect(1)
            return
        size = missing(partial)
        if len(partial) < size:  # else the buffer was full: read on at once
            if self._tcp.ended:
                raise cut_error()
            if self._tcp.starved:
                self._keep(partial)
            self._tcp.expect(size - len(self._kept))

    def _keep(self, partial: memoryview) -> None:
        """Take a partial record out of the kernel.

        Its last bytes may pin a whole receive buffer's worth of kernel memory, so that nothing
        more is taken in and the record would never become whole.
        """
        self._tcp.discard(len(partial) - len(self._kept))
        self._kept = bytes(partial)
