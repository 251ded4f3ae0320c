"""TLS 1.3 of our own on a stream: records are opened and sealed in the caller's block.

What is read lands one record behind where its plaintext goes; what is written starts one record
behind where its records go. An idle connection holds keys and counters only. Where a partial
record stays depends on the base: see ``tls13_over_socket`` and ``tls13_over_stream``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from circumvent.api.layer import LayerStream
from circumvent.api.streams import ByteStream, SecureStream
from circumvent.errors import StreamResetError
from circumvent.layers.backlog import Backlog
from circumvent.memory import LARGEST
from circumvent.net.readiness import NOW
from circumvent.net.sockets import send_close
from circumvent.wire.tls13.codes import MAX_PLAINTEXT
from circumvent.wire.tls13.connection import Connection
from circumvent.wire.tls13.records import MAX_RECORD, OVERHEAD

RECORDS = LARGEST // MAX_PLAINTEXT + 1  # in the largest block
# Bytes; a peer that asks for new keys again and again, and reads none of them, gets no more.
_MOST_WAITING = 1024
_NOTHING = memoryview(b"")

Take = Callable[[Connection], None]  # takes the tickets that a connection brought


class Tls13Stream(LayerStream, SecureStream):
    """One TLS connection after its handshake; owns ``base``.

    ``kept`` are the bytes behind the handshake, not opened. ``take_tickets`` is called when there
    are some.
    """

    __slots__ = (
        "_backlog",
        "_connection",
        "_end_announced",
        "_is_ready",
        "_kept",
        "_most",
        "_opens_one",
        "_take_tickets",
    )

    def __init__(
        self, base: ByteStream, connection: Connection, kept: bytes, take_tickets: Take
    ) -> None:
        super().__init__(base)
        self._backlog = Backlog(base)
        self._connection = connection
        self._kept = kept
        self._is_ready = bool(kept)  # whether a read is worth a try, whatever the base says
        self._take_tickets = take_tickets
        self._end_announced = False
        self._most = min(LARGEST, RECORDS * connection.limit)  # bytes in one write
        self._opens_one = False  # record with data in a read
        self.headroom = base.headroom + connection.headroom(self._most)
        self.overhead = base.overhead + MAX_RECORD + RECORDS * OVERHEAD

    def channel_binding(self) -> bytes:
        return self._connection.outcome.binding

    def server_key(self) -> bytes:
        return self._connection.outcome.server_key

    # --- in -------------------------------------------------------------------------------------

    def wait_readable(self) -> Awaitable[None]:
        return NOW if self._is_ready else self.base.wait_readable()

    def _open(self, wire: memoryview, plain: memoryview) -> tuple[int, int]:
        """Open all whole records; returns how much of both was used."""
        connection = self._connection
        try:
            if self._opens_one:
                return self._open_next(wire, plain)
            return connection.open(wire, plain)
        finally:
            self._is_ready = connection.is_over
            if connection.outgoing:
                self._speak()
            if connection.has_tickets:
                self._take_tickets(connection)

    def _speak(self) -> None:
        """Send what the protocol demands: an alert, or the news that our key changed."""
        said = self._connection.take_outgoing()
        if self._end_announced:
            return
        if len(self._backlog) > _MOST_WAITING:
            self.abort()
            return
        self._backlog.add(said)
        with contextlib.suppress(StreamResetError):  # the next write will raise it
            self.flush()

    def _read_after_the_last(self) -> int:
        """The end, or what broke the connection."""
        return self._connection.open(_NOTHING, _NOTHING)[1]

    def _nothing(self) -> int | None:
        """What a read returns that brought no data."""
        return 0 if self._connection.ended else None

    def open_one_by_one(self, *, wanted: bool) -> None:
        """Whether a read opens one record only: what lies behind it may be no record of ours."""
        self._opens_one = wanted

    def _open_next(self, wire: memoryview, plain: memoryview) -> tuple[int, int]:
        """Open records up to the first one with data."""
        used = size = 0
        while not size:
            more, size = self._connection.open(wire[used:], plain, 1)
            used += more
            if not more:
                break
        return used, size

    def stop_opening(self) -> bytes:
        """What was read and not opened. What follows is there to be read from ``base``.

        Only after a read, while records are opened one by one.
        """
        self._is_ready = False
        kept, self._kept = self._kept, b""
        return kept

    # --- out ------------------------------------------------------------------------------------

    def room(self) -> int:
        room = self._backlog.room()
        sealed_more = OVERHEAD * (room // self._connection.limit + 1)
        return max(room - sealed_more, min(room, 1))

    def write(self, block: memoryview, start: int, end: int) -> int:
        size = min(end - start, self.room(), self._most)
        if not size:
            return 0
        first, last = self._connection.seal(block, start, start + size)
        self._backlog.pass_on(block, first, last)
        if self._connection.outgoing:
            self._speak()
        return size

    def flush(self) -> bool:
        return self._backlog.flush()

    def stop_sealing(self) -> None:
        """Send no more records. Once ``flush`` is True, what follows is written to ``base``."""
        self._end_announced = True

    def write_eof(self) -> None:
        if self._end_announced:
            return
        self._end_announced = True
        self._backlog.add(self._connection.goodbye())
        with contextlib.suppress(StreamResetError):  # the peer may be gone already
            self.flush()

    async def aclose(self) -> None:
        self.write_eof()
        await send_close(self, self.flush)
        await self.base.aclose()
