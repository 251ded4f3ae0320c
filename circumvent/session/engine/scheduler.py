"""Which frame goes on which carrier; this is decided only when the carrier can write.

A slower carrier does not take the next frame. It leaves to the faster ones what they deliver
meanwhile, and takes the frame behind that. So bytes arrive nearly in order, and a carrier without
such a frame waits. (Related schedulers of MPTCP: BLEST, ECF, STMS.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from circumvent.session.engine.carrier import NEVER, CarrierState, EngineCarrier
from circumvent.session.engine.limits import TURN
from circumvent.session.engine.stream import EngineStream, Frame, Outbox
from circumvent.wire.frames import MAX_FRAME

_WORTH = 0.002  # seconds that a slower carrier must save before frames are split up
_DECLINED = 0.001  # seconds for which a carrier that had to wait is not asked again
_LOOK_AT = 16  # streams asked for a frame that lies deep enough, before giving up


class Scheduler:
    """Frames of all streams that wait for a carrier; streams take turns."""

    __slots__ = ("_since", "_turn", "_turns", "grain", "size")

    def __init__(self) -> None:
        self._turns: deque[EngineStream] = deque()
        self._since = NEVER  # when it was first seen that frames wait
        self._turn = 0.0  # bytes left of the first one's turn
        self.size = 0
        self.grain = MAX_FRAME  # the largest that was queued since the queue was empty

    def push(self, stream: EngineStream, frame: Frame) -> None:
        """Queue a frame behind the others of its stream; an idle stream gets the next turn."""
        outbox = stream.outbox
        if outbox is None:
            outbox = stream.outbox = Outbox()
            self._turns.appendleft(stream)
        outbox.frames.append(frame)
        self._grow(outbox, frame.size)

    def push_back(self, frame: Frame, stream: EngineStream) -> None:
        """Queue a frame again, before all others of its stream."""
        if stream.outbox is None:
            self.push(stream, frame)
            return
        stream.outbox.frames.appendleft(frame)
        self._grow(stream.outbox, frame.size)

    def _grow(self, outbox: Outbox, size: int) -> None:
        outbox.size += size
        self.size += size
        if size > self.grain:
            self.grain = size

    def grow(self, stream: EngineStream, count: int) -> None:
        """The last frame of ``stream`` grew."""
        if stream.outbox is not None:
            stream.outbox.size += count
            self.size += count

    def drop(self, stream: EngineStream) -> Iterable[Frame]:
        """Take all frames of a stream out."""
        outbox = stream.outbox
        if outbox is None:
            return ()
        stream.outbox = None
        self._turns.remove(stream)
        self.size -= outbox.size
        if not self._turns:
            self._note_empty()
        return outbox.frames

    def fill(
        self,
        carrier: EngineCarrier,
        rivals: Iterable[EngineCarrier],
        view: memoryview,
        at: int,
        now: float,
    ) -> int:
        """Copy frames for ``carrier`` into ``view[at:]``; returns the end of the last one."""
        carrier.ready_at = now
        left = carrier.allowance
        if left < self.grain and carrier.sent == carrier.acked:
            left = self.grain
        room, turns, frames = min(len(view), at + left), self._turns, carrier.frames
        depth, per_byte = self._depth(carrier, rivals, now)
        if not depth:  # nothing to choose: most frames go this way
            return self._fill_in_turn(carrier, view, at, room)
        while turns:
            frame = self._next(depth, room - at)
            if frame is None:
                break
            if frame.is_settled:
                continue
            after = at + frame.size
            view[at:after] = frame.view
            frame.carrier, frame.is_fresh = carrier.number, False
            frames.append(frame)
            depth += per_byte * frame.size
            at = after
        if not turns:
            self._note_empty()
        return at

    def _note_empty(self) -> None:
        """No frame waits any more."""
        self._since = NEVER
        self.grain = MAX_FRAME

    def _fill_in_turn(self, carrier: EngineCarrier, view: memoryview, at: int, room: int) -> int:
        """As ``fill``, when no other carrier is faster."""
        turns, whole_turn = self._turns, carrier.estimate.rate * TURN
        while turns:
            stream, start = turns[0], at
            at = self._fill_from_one(carrier, stream, view, at, room)
            self._turn -= at - start
            if stream.outbox is None:
                turns.popleft()
            elif self._turn <= 0.0:
                turns.rotate(-1)
            else:  # no room
                return at
            self._turn = whole_turn
        self._note_empty()
        return at

    def _fill_from_one(
        self, carrier: EngineCarrier, stream: EngineStream, view: memoryview, at: int, room: int
    ) -> int:
        outbox = stream.outbox
        assert outbox is not None  # noqa: S101 - for the checker: a stream with a turn has an outbox
        queue, number, left = outbox.frames, carrier.number, outbox.size
        stop = at + self._turn
        while queue and at < stop:
            frame = queue[0]
            if not frame.is_settled:
                after = at + frame.size
                if after > room:
                    break
                view[at:after] = frame.view
                frame.carrier, frame.is_fresh = number, False
                carrier.frames.append(frame)
                at = after
            queue.popleft()
            left -= frame.size
        self.size -= outbox.size - left
        outbox.size = left
        if not queue:
            stream.outbox = None
        return at

    def has_work(self, carrier: EngineCarrier, rivals: Iterable[EngineCarrier], now: float) -> bool:
        """Whether ``fill`` is worth a try."""
        carrier.ready_at = now
        if not self._turns or now < carrier.declined_until:
            return False
        if carrier.allowance < self.grain and carrier.sent > carrier.acked:
            return False
        if self.size > self._depth(carrier, rivals, now)[0]:
            return True
        carrier.declined_until = now + _DECLINED
        return False

    def _depth(
        self, carrier: EngineCarrier, rivals: Iterable[EngineCarrier], now: float
    ) -> tuple[float, float]:
        """Bytes that faster carriers deliver before a frame that ``carrier`` takes now arrives.

        The second number: how many more they deliver for each byte that it takes.
        """
        since = self._since = min(self._since, now)
        mine, depth, faster = carrier.arrival(now, since), 0.0, 0.0
        for rival in rivals:
            if rival is not carrier and rival.state is CarrierState.UP:
                ahead = mine - rival.arrival(now, since)
                if ahead > 0.0:
                    depth += (ahead + _WORTH) * rival.estimate.rate
                    faster += rival.estimate.rate
        return depth, faster / carrier.estimate.rate

    def _next(self, depth: float, room: int) -> Frame | None:
        """Take out the frame that lies ``depth`` bytes ahead, if it fits into ``room``."""
        if self.size <= depth:
            return None
        turns = self._turns
        share = depth / len(turns)
        for _ in range(min(len(turns), _LOOK_AT)):
            index = _index_at(turns[0], share)
            if index is not None:
                return self._take(turns[0], index, room)
            turns.rotate(-1)
        return None

    def _take(self, stream: EngineStream, index: int, room: int) -> Frame | None:
        outbox = stream.outbox
        assert outbox is not None  # noqa: S101 - for the checker: a stream with a turn has an outbox
        frame = outbox.frames[index]
        if frame.size > room and not frame.is_settled:
            return None
        del outbox.frames[index]
        outbox.size -= frame.size
        self.size -= frame.size
        if not outbox.frames:
            stream.outbox = None
            self._turns.popleft()
        elif len(self._turns) > 1:
            self._turns.rotate(-1)
        return frame


def _index_at(stream: EngineStream, depth: float) -> int | None:
    """Index of the first frame with ``depth`` bytes of its stream before it, if there is one."""
    outbox = stream.outbox
    if outbox is None or outbox.size <= depth:
        return None
    before = 0
    for index, frame in enumerate(outbox.frames):
        if before >= depth:
            return index
        before += frame.size
    return None
