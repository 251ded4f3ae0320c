"""The sending direction: cuts data into frames and keeps them until they are settled."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from circumvent.memory import PAGE
from circumvent.session.engine.blocks import Blocks
from circumvent.session.engine.carrier import EngineCarrier
from circumvent.session.engine.credit import SendCredit
from circumvent.session.engine.limits import LEAST_WINDOW, MAX_UNACKED_FRAMES
from circumvent.session.engine.scheduler import Scheduler
from circumvent.session.engine.stream import EngineStream, Frame, Sending, StreamEvent
from circumvent.wire.frames import (
    HEADER,
    HEADER_SIZE,
    LENGTH_BITS,
    MAX_FRAME,
    MAX_PAYLOAD,
    RUNS,
    FrameKind,
    ResetReason,
    pack,
)

_RESERVED = 4 * LEAST_WINDOW  # credit that only streams with nothing queued may use
_DATA = FrameKind.DATA << LENGTH_BITS
_WAKE_AT_ONCE = 8  # writers; the others are woken next time


class Sender:
    """Frames from the first write to their acknowledgement.

    ``wake`` is called with a stream whose waiting writer may go on, ``finished`` with one whose
    last frame was settled.
    """

    __slots__ = (
        "_blocked",
        "_control",
        "_finished",
        "_frames",
        "_openings",
        "_wake",
        "blocks",
        "credit",
        "makes_runs",
        "scheduler",
    )

    def __init__(
        self,
        blocks: Blocks,
        wake: Callable[[EngineStream], None],
        finished: Callable[[EngineStream], None],
    ) -> None:
        self.blocks = blocks
        self._finished = finished
        self.credit = SendCredit()
        self.scheduler = Scheduler()
        self._wake = wake
        self.makes_runs = False  # a path is so fast that the cost of each frame matters
        self._frames = 0  # with data and not settled
        self._control: deque[Frame] = deque()
        self._openings: dict[EngineStream, Frame] = {}  # openings that wait for their first data
        self._blocked: OrderedDict[EngineStream, None] = OrderedDict()

    # --- what users write -----------------------------------------------------------------------

    def room(self, stream: EngineStream) -> int:
        """Bytes that ``write`` would take now.

        A stream may queue as much as is left for all others together: one alone gets half of
        the memory, and there is always some for the next one.
        """
        if stream.sending is not Sending.OPEN:
            return 0
        credit, memory = self.credit.free, self.blocks.free
        if stream.outbox is not None:
            credit -= _RESERVED
            memory -= stream.outbox.size
        if memory < PAGE or self._frames >= MAX_UNACKED_FRAMES:
            return 0
        fitting = memory // MAX_FRAME * MAX_PAYLOAD if memory >= MAX_FRAME else PAGE - HEADER_SIZE
        return max(0, min(fitting, credit, stream.send_limit - stream.sent))

    def write(self, stream: EngineStream, data: memoryview) -> int:
        """Queue as much of ``data`` as there is room for."""
        self.announce(stream)
        count = min(len(data), self.room(stream))
        sent = self._append_to_last(stream, data[:count])
        stream.sent += sent
        while sent < count:
            added = self._add(stream, data[sent:count])
            if not added:
                break
            stream.sent += added
            sent += added
        self.credit.spent += sent
        return sent

    def _add(self, stream: EngineStream, data: memoryview) -> int:
        """Queue one frame with the start of ``data``, or a run of full ones; how many bytes."""
        full = len(data) // MAX_PAYLOAD if self.makes_runs else 0
        frames = next((each for each in RUNS if each <= full), 0)
        count = frames * MAX_PAYLOAD or min(len(data), MAX_PAYLOAD)
        lease = self.blocks.take(frames * MAX_FRAME or HEADER_SIZE + count)
        if lease is None and frames:  # where a run has no room, one frame may
            frames, count = 0, MAX_PAYLOAD
            lease = self.blocks.take(MAX_FRAME)
        if lease is None:
            return 0
        view, offset = lease.view, stream.sent
        at = start = 0
        while start < count:
            end = start + MAX_PAYLOAD if frames else count
            payload = data[start:end]
            HEADER.pack_into(view, at, _DATA | end - start, stream.number, offset + start)
            after = at + HEADER_SIZE + end - start
            view[at + HEADER_SIZE : after] = payload
            at, start = after, end
        self.scheduler.push(stream, Frame(stream, view[:at], lease))
        self._frames += frames or 1
        stream.unacked += 1
        return count

    def _append_to_last(self, stream: EngineStream, data: memoryview) -> int:
        """Let the last frame grow if no carrier has seen it: many small writes, few frames."""
        last = stream.outbox.frames[-1] if stream.outbox is not None else None
        if last is None or last.lease is None or not last.is_fresh:
            return 0  # (a run is full)
        count = min(len(data), len(last.lease.view) - last.size)
        if count:
            size = last.size + count
            last.lease.view[last.size : size] = data[:count]
            last.view, last.size = last.lease.view[:size], size
            start = stream.sent + HEADER_SIZE + count - size
            HEADER.pack_into(last.view, 0, _DATA | size - HEADER_SIZE, stream.number, start)
            self.scheduler.grow(stream, count)
        return count

    def end(self, stream: EngineStream) -> None:
        """No more bytes follow."""
        if stream.send_event(StreamEvent.END):
            self._signal(stream, FrameKind.FIN)

    def cut(self, stream: EngineStream, reason: ResetReason) -> None:
        """Drop what is not acknowledged; RESET tells the peer how many bytes there were."""
        if not stream.send_event(StreamEvent.CUT):
            return
        self.drop(stream)
        self._signal(stream, FrameKind.RESET, bytes((reason,)))

    def drop(self, stream: EngineStream) -> None:
        """Forget the frames of a stream that are queued."""
        self.settle_all(self.scheduler.drop(stream))

    def stop(self, stream: EngineStream, reason: ResetReason) -> None:
        """Ask the peer to send no more on this stream."""
        self.announce(stream)
        self._control.append(
            Frame(None, pack(FrameKind.STOP, stream.number, 0, bytes((reason,))), None)
        )

    def open(self, stream: EngineStream, opening: bytes) -> None:
        """Prepare the opening of a new stream: it is sent with its first data or ``announce``.

        It is not sent alone, because its length would show that of the destination's name.
        """
        frame = Frame(stream, pack(FrameKind.OPEN, stream.number, stream.granted, opening), None)
        stream.unacked += 1
        self._openings[stream] = frame

    def announce(self, stream: EngineStream) -> None:
        """Queue the opening, if that was not done before."""
        if self._openings and (frame := self._openings.pop(stream, None)) is not None:
            self._control.append(frame)

    def grant(self, number: int, limit: int) -> None:
        """Tell how far the peer may send on a stream, or in the whole session."""
        self._control.append(Frame(None, pack(FrameKind.WINDOW, number, limit), None))

    def _signal(self, stream: EngineStream, kind: FrameKind, payload: bytes = b"") -> None:
        self.announce(stream)
        stream.unacked += 1
        self._control.append(Frame(stream, pack(kind, stream.number, stream.sent, payload), None))

    # --- what carriers take ---------------------------------------------------------------------

    @property
    def has_control(self) -> bool:
        """Whether frames without data wait; any carrier may take them."""
        return bool(self._control)

    @property
    def has_queue(self) -> bool:
        """Whether anything waits for a carrier."""
        return bool(self._control) or self.scheduler.size > 0

    def has_work(self, carrier: EngineCarrier, rivals: Iterable[EngineCarrier], now: float) -> bool:
        """Whether ``fill`` is worth a try."""
        return bool(self._control) or self.scheduler.has_work(carrier, rivals, now)

    def fill(
        self,
        carrier: EngineCarrier,
        rivals: Iterable[EngineCarrier],
        view: memoryview,
        at: int,
        now: float,
    ) -> int:
        """Write reliable frames into ``view[at:]``; returns the end of the last one."""
        start, room, grain = at, len(view), self.scheduler.grain
        at = self._fill_control(carrier, view, at)
        at = self.scheduler.fill(carrier, rivals, view, at, now)
        if at > start:
            is_full = room - at < grain or carrier.allowance - (at - start) < grain
            carrier.launch(at - start, now, is_bound_by_path=is_full)
            self.makes_runs = any(each.estimate.is_fast for each in rivals)
            self.wake_blocked()
        return at

    def _fill_control(self, carrier: EngineCarrier, view: memoryview, at: int) -> int:
        control, room = self._control, len(view)
        while control and at + control[0].size <= room:
            frame = control.popleft()
            after = at + frame.size
            view[at:after] = frame.view
            frame.carrier = carrier.number
            carrier.frames.append(frame)
            at = after
        return at

    # --- settled frames ------------------------------------------------------------------------

    def settle_all(self, frames: Iterable[Frame]) -> None:
        """Forget frames that arrived or are not needed any more."""
        give = self.blocks.give
        for frame in frames:
            if frame.is_settled:
                continue
            frame.is_settled = True
            if frame.lease is not None:
                give(frame.lease)
                frame.lease = None
                frame.view = b""
                self._frames -= frames_in(frame.size)
            stream = frame.stream
            if stream is not None:
                stream.unacked -= 1
                if not stream.unacked and stream.sending is not Sending.OPEN:
                    self._finished(stream)

    def requeue(self, carrier: EngineCarrier) -> int:
        """Let others carry what is still on the way on ``carrier``; returns bytes."""
        moved = 0
        for frame in reversed(carrier.frames):
            if frame.carrier == carrier.number and not frame.is_settled:
                frame.carrier = 0
                moved += self._requeue(frame)
        return moved

    def _requeue(self, frame: Frame) -> int:
        stream = frame.stream
        if frame.lease is None or stream is None:
            self._control.appendleft(frame)
        elif stream.sending is Sending.CUT:
            self.settle_all((frame,))
            return 0
        else:
            self.scheduler.push_back(frame, stream)
        return frame.size

    # --- waiting writers ------------------------------------------------------------------------

    def wait(self, stream: EngineStream) -> None:
        """Wake this stream's writer when there is room."""
        stream.waits_to_write = True
        self._blocked[stream] = None

    def wake_blocked(self) -> None:
        """Wake the first of the waiting writers that now have room."""
        if not self._blocked or self.credit.free <= 0 or self.blocks.free < PAGE:
            return
        for _ in range(min(len(self._blocked), _WAKE_AT_ONCE)):
            stream, _none = self._blocked.popitem(last=False)
            if not self.wake_if_room(stream):
                self._blocked[stream] = None

    def wake_if_room(self, stream: EngineStream) -> bool:
        """Wake this stream's writer if it has room or was cut; False if it must go on waiting."""
        if not stream.waits_to_write:
            return True
        if stream.sending is Sending.OPEN and not self.room(stream):
            return False
        self._wake(stream)
        return True


def frames_in(size: int) -> int:
    """How many frames a run of so many bytes has."""
    return -(-size // MAX_FRAME)
