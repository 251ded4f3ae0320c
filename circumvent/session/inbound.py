"""The receiving half: puts what arrives in order and keeps it until somebody reads it."""

from __future__ import annotations

from collections.abc import Callable

from circumvent.errors import ProtocolError
from circumvent.session.blocks import Blocks
from circumvent.session.credit import ReceiveCredit
from circumvent.session.limits import MAX_GAPS
from circumvent.session.streams import Inbox, Piece, Receiving, Stream

Loan = tuple[Stream, Piece]


class Inbound:
    """Received bytes of all streams. ``starve`` is called for a stream that found no memory."""

    __slots__ = ("_blocks", "_credit", "_gaps", "_starve")

    def __init__(
        self, blocks: Blocks, credit: ReceiveCredit, starve: Callable[[Stream], None]
    ) -> None:
        self._blocks = blocks
        self._credit = credit
        self._starve = starve
        self._gaps = 0

    def data(
        self,
        stream: Stream,
        offset: int,
        payload: memoryview,
        now: float,
        lent: list[Loan] | None,
    ) -> bool:
        """Take the payload of a DATA frame; False when it was known. Raises ProtocolError.

        Where ``lent`` is given, what a waiting reader will take at once may stay where it is:
        then it is noted there, and ``keep`` must be called before ``payload`` goes.
        """
        end = offset + len(payload)
        inbox, received = stream.inbox, stream.received
        if end <= received or (inbox is not None and offset in inbox.gaps):
            return False
        if offset < received or end > stream.granted or 0 <= stream.final < end:
            raise ProtocolError("session: data where none may be", stage="frame")
        high = received if inbox is None else inbox.high
        if end > high:
            self._credit.receive(end - high)
        if stream.receiving is Receiving.STOPPED or stream.receiving is Receiving.CUT:
            self._drop(stream, end)
            return True
        if inbox is None:
            inbox = stream.inbox = Inbox(received, now)
        if end > high:
            inbox.high = end
        if offset != received:
            self._set_apart(stream, inbox, offset, payload)
        elif self._append(stream, inbox, payload, lent):
            stream.received = end
            inbox.size += end - offset
            if inbox.gaps:
                self._close_gaps(stream, inbox)
        else:
            self._starve(stream)
        return True

    def keep(self, lent: list[Loan]) -> None:
        """What was lent to readers goes: copy what they did not take."""
        for stream, piece in lent:
            count = piece.end - piece.start
            if count and piece.lease is None:
                lease = self._blocks.take(count)
                if lease is None:
                    self._starve(stream)
                    continue
                lease.view[:count] = piece.view[piece.start : piece.end]
                piece.view, piece.lease, piece.start, piece.end = lease.view, lease, 0, count

    def read_into(self, stream: Stream, buffer: memoryview, now: float) -> int:
        """Move what is in order into ``buffer``; how many bytes that was."""
        inbox = stream.inbox
        if inbox is None:
            return 0
        at, room, pieces = 0, len(buffer), inbox.pieces
        while pieces and at < room:
            piece = pieces[0]
            start, end = piece.start, piece.end
            count = end - start
            if count > room - at:
                count = room - at
                buffer[at:] = piece.view[start : start + count]
                piece.start += count
            else:
                buffer[at : at + count] = piece.view[start:end]
                self._give(pieces.popleft())
            at += count
        inbox.size -= at
        inbox.moved_at = now
        self._credit.consumed += at
        if not pieces and not inbox.gaps:
            stream.inbox = None
        return at

    def _give(self, piece: Piece) -> None:
        if piece.lease is not None:
            self._blocks.give(piece.lease)
        piece.start = piece.end

    def discard(self, stream: Stream) -> None:
        """Nobody will read: give back what is held, and count as read all that is known of."""
        known = max(stream.final, stream.high)
        if known > stream.high:  # what will never come was sent as far as credit goes
            self._credit.receive(known - stream.high)
        self._credit.consumed += known - stream.consumed
        self.release(stream)
        stream.received = known

    def release(self, stream: Stream) -> None:
        """Give back what is held."""
        inbox = stream.inbox
        if inbox is not None:
            for piece in (*inbox.pieces, *inbox.gaps.values()):
                self._give(piece)
            self._gaps -= len(inbox.gaps)
        stream.inbox = None

    def _drop(self, stream: Stream, end: int) -> None:
        self._credit.consumed += max(0, end - stream.received)
        stream.received = max(end, stream.received)

    def _append(
        self, stream: Stream, inbox: Inbox, payload: memoryview, lent: list[Loan] | None
    ) -> bool:
        count, pieces = len(payload), inbox.pieces
        last = pieces[-1] if pieces else None
        if last is not None and last.lease is not None and last.end + count <= len(last.view):
            last.view[last.end : last.end + count] = payload  # small ones share a block
            last.end += count
            return True
        if lent is not None and (last.lease is None if last is not None else stream.waits_to_read):
            pieces.append(Piece(payload, count, None))
            lent.append((stream, pieces[-1]))
            return True
        lease = self._blocks.take(count)
        if lease is None:
            return False
        lease.view[:count] = payload
        pieces.append(Piece(lease.view, count, lease))
        return True

    def _close_gaps(self, stream: Stream, inbox: Inbox) -> None:
        while (piece := inbox.gaps.pop(stream.received, None)) is not None:
            self._gaps -= 1
            count = piece.end - piece.start
            inbox.pieces.append(piece)
            inbox.size += count
            stream.received += count

    def _set_apart(self, stream: Stream, inbox: Inbox, offset: int, payload: memoryview) -> None:
        if self._gaps >= MAX_GAPS:
            raise ProtocolError("session: too many gaps", stage="frame")
        count = len(payload)
        lease = self._blocks.take(count)
        if lease is None:
            self._starve(stream)
            return
        lease.view[:count] = payload
        inbox.gaps[offset] = Piece(lease.view, count, lease)
        self._gaps += 1
