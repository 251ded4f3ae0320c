"""The receiving direction: puts data in order and keeps it until it is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from circumvent.errors import ProtocolError
from circumvent.memory import Lease
from circumvent.session.engine.blocks import Blocks
from circumvent.session.engine.credit import ReceiveCredit
from circumvent.session.engine.limits import MAX_GAPS
from circumvent.session.engine.stream import EngineStream, Inbox, Piece, Receiving

_RECEIVES = (Receiving.OPEN, Receiving.SIZED)
_FORBIDDEN = "session: data where none may be"


class Receiver:
    """Received bytes of all streams.

    ``make_room`` is called with a stream that needs memory and the time, and says whether another
    one gave some up; ``no_memory`` with one that found none.
    """

    __slots__ = ("_blocks", "_credit", "_gaps", "_make_room", "_no_memory", "_now")

    def __init__(
        self,
        blocks: Blocks,
        credit: ReceiveCredit,
        make_room: Callable[[EngineStream, float], bool],
        no_memory: Callable[[EngineStream], None],
    ) -> None:
        self._blocks = blocks
        self._credit = credit
        self._make_room = make_room
        self._no_memory = no_memory
        self._gaps = 0
        self._now = 0.0

    def run(
        self,
        stream: EngineStream,
        offset: int,
        frames: list[memoryview],
        now: float,
        lent: list[EngineStream] | None,
    ) -> bool:
        """Take the payloads of DATA frames that follow on each other and on what came before.

        Returns False when they do not, or there are gaps: then pass them to ``data`` one by one.
        Where ``lent`` is given, data for a waiting reader may stay where it is: then the stream is
        added to ``lent``, and ``keep`` must be called before the memory is reused. Raises
        ProtocolError.
        """
        self._now, inbox = now, stream.inbox
        if offset != stream.received or stream.receiving not in _RECEIVES:
            return False
        if inbox is None:
            inbox = stream.inbox = Inbox(offset, now)
        elif inbox.gaps:
            return False
        count = sum(map(len, frames))
        self._check_end(stream, offset + count)
        self._credit.receive(count)
        inbox.high = offset + count
        if lent is not None and (inbox.loans or (stream.waits_to_read and not inbox.pieces)):
            inbox.loans.extend(frames)
            lent.append(stream)
            self._arrived(stream, inbox, count)
        else:
            self._append_all(stream, inbox, frames)
        return True

    def _append_all(self, stream: EngineStream, inbox: Inbox, frames: list[memoryview]) -> None:
        for payload in frames:
            if not self._append(stream, inbox, payload):
                self._no_memory(stream)
                return
            self._arrived(stream, inbox, len(payload))

    @staticmethod
    def _arrived(stream: EngineStream, inbox: Inbox, count: int) -> None:
        stream.received += count
        inbox.size += count

    @staticmethod
    def _check_end(stream: EngineStream, end: int) -> None:
        if end > stream.granted or 0 <= stream.final < end:
            raise ProtocolError(_FORBIDDEN, stage="frame")

    def data(self, stream: EngineStream, offset: int, payload: memoryview, now: float) -> bool:
        """Take the payload of a DATA frame; False when it is not new. Raises ProtocolError."""
        self._now = now
        count = len(payload)
        end = offset + count
        inbox, received = stream.inbox, stream.received
        if end <= received or (inbox is not None and offset in inbox.gaps):
            return False
        if offset < received:
            raise ProtocolError(_FORBIDDEN, stage="frame")
        self._check_end(stream, end)
        high = received if inbox is None else inbox.high
        if end > high:
            self._credit.receive(end - high)
        if stream.receiving not in _RECEIVES:
            self._drop(stream, end)
            return True
        if inbox is None:
            inbox = stream.inbox = Inbox(received, now)
        inbox.high = max(high, end)
        if offset != received:
            self._set_apart(stream, inbox, offset, payload)
        elif self._append(stream, inbox, payload):
            self._arrived(stream, inbox, count)
            self._close_gaps(stream, inbox)
        else:
            self._no_memory(stream)
        return True

    def keep(self, lent: list[EngineStream]) -> None:
        """Copy what readers did not take of what was lent to them: its block goes back."""
        for stream in lent:
            if stream.inbox is not None and not self._keep(stream, stream.inbox):
                self._no_memory(stream)

    def read_into(self, stream: EngineStream, buffer: memoryview, now: float) -> int:
        """Move bytes that are in order into ``buffer``; returns how many."""
        inbox = stream.inbox
        if inbox is None:
            return 0
        at = 0
        if inbox.pieces:
            at = self._read_pieces(inbox.pieces, buffer)
        if inbox.loans:
            at = _read_loans(inbox.loans, buffer, at)
        inbox.size -= at
        inbox.moved_at = now
        self._credit.consumed += at
        if not (inbox.pieces or inbox.loans or inbox.gaps):
            stream.inbox = None
        return at

    def _read_pieces(self, pieces: deque[Piece], buffer: memoryview) -> int:
        at, room = 0, len(buffer)
        while pieces and at < room:
            piece = pieces[0]
            start = piece.start
            end = piece.start = min(piece.end, start + room - at)
            buffer[at : at + end - start] = piece.lease.view[start:end]
            at += end - start
            if end == piece.end:
                self._blocks.give(pieces.popleft().lease)
        return at

    def discard(self, stream: EngineStream) -> None:
        """Drop what is not read: give back its memory, and count as read all that is known of."""
        known = max(stream.final, stream.high)
        if known > stream.high:  # bytes that will never come were counted as sent
            self._credit.receive(known - stream.high)
        self._credit.consumed += known - stream.consumed
        self.release(stream)
        stream.received = known

    def release(self, stream: EngineStream) -> None:
        """Give back what is held."""
        inbox = stream.inbox
        if inbox is not None:
            for piece in (*inbox.pieces, *inbox.gaps.values()):
                self._blocks.give(piece.lease)
            self._gaps -= len(inbox.gaps)
        stream.inbox = None

    def _drop(self, stream: EngineStream, end: int) -> None:
        self._credit.consumed += max(0, end - stream.received)
        stream.received = max(end, stream.received)

    def _append(self, stream: EngineStream, inbox: Inbox, payload: memoryview) -> bool:
        return self._keep(stream, inbox) and self._copy(stream, inbox, payload)

    def _keep(self, stream: EngineStream, inbox: Inbox) -> bool:
        loans = inbox.loans
        while loans:
            if not self._copy(stream, inbox, loans.popleft()):
                return False
        return True

    def _lease(self, stream: EngineStream, count: int) -> Lease | None:
        lease = self._blocks.take(count)
        while lease is None and self._make_room(stream, self._now):
            lease = self._blocks.take(count)
        return lease

    def _copy(self, stream: EngineStream, inbox: Inbox, payload: memoryview) -> bool:
        count, pieces = len(payload), inbox.pieces
        if pieces:
            last = pieces[-1]
            if last.end + count <= len(last.lease.view):
                last.lease.view[last.end : last.end + count] = payload  # small ones share a block
                last.end += count
                return True
        lease = self._lease(stream, count)
        if lease is None:
            return False
        lease.view[:count] = payload
        pieces.append(Piece(lease, count))
        return True

    def _close_gaps(self, stream: EngineStream, inbox: Inbox) -> None:
        while (piece := inbox.gaps.pop(stream.received, None)) is not None:
            self._gaps -= 1
            inbox.pieces.append(piece)
            self._arrived(stream, inbox, piece.end - piece.start)

    def _set_apart(
        self, stream: EngineStream, inbox: Inbox, offset: int, payload: memoryview
    ) -> None:
        if self._gaps >= MAX_GAPS:
            raise ProtocolError("session: too many gaps", stage="frame")
        count = len(payload)
        lease = self._lease(stream, count)
        if lease is None:
            self._no_memory(stream)
            return
        lease.view[:count] = payload
        inbox.gaps[offset] = Piece(lease, count)
        self._gaps += 1


def _read_loans(loans: deque[memoryview], buffer: memoryview, at: int) -> int:
    """Continue ``buffer`` at ``at``; returns where it ends."""
    room = len(buffer)
    while loans and at < room:
        view = loans[0]
        count = len(view)
        if count > room - at:
            count = room - at
            loans[0] = view[count:]
            view = view[:count]
        else:
            loans.popleft()
        buffer[at : at + count] = view
        at += count
    return at
