"""What each frame of the peer does."""

from __future__ import annotations

from collections.abc import Callable

from circumvent.errors import ProtocolError
from circumvent.session.engine.carrier import MICROSECONDS, CarrierState, EngineCarrier
from circumvent.session.engine.state import EngineState
from circumvent.session.engine.stream import EngineStream, Sending, StreamEvent
from circumvent.session.engine.useless_frames import UselessFrames
from circumvent.wire.frames import (
    FIRST_UNCOUNTED,
    HEADER,
    HEADER_SIZE,
    LENGTH_BITS,
    LENGTH_MASK,
    MAX_OFFSET,
    MAX_PAYLOAD,
    SESSION,
    CloseReason,
    FrameKind,
    Head,
    ResetReason,
    read_head,
)

_DATA = int(FrameKind.DATA)
_Handler = Callable[[EngineCarrier, Head, bytes, float], bool]


class FrameHandler:
    """Splits received bytes into frames and calls the handler of each.

    A handler returns False when its frame brought nothing new; such frames are allowed up to a
    rate (``UselessFrames``).
    """

    __slots__ = ("_handlers", "_state", "_useless")

    def __init__(self, state: EngineState, now: float) -> None:
        self._state = state
        self._useless = UselessFrames(now)
        self._handlers: dict[int, _Handler] = {
            FrameKind.OPEN: self._on_open,
            FrameKind.WINDOW: self._on_window,
            FrameKind.FIN: self._on_fin,
            FrameKind.RESET: self._on_reset,
            FrameKind.STOP: self._on_stop,
            FrameKind.ACK: self._on_ack,
            FrameKind.PING: self._on_ping,
            FrameKind.PONG: self._on_pong,
            FrameKind.ASK: self._on_ask,
            FrameKind.GONE: self._on_gone,
            FrameKind.CLOSE: self._on_close,
        }

    def receive(
        self,
        carrier: EngineCarrier,
        data: memoryview,
        now: float,
        lent: list[EngineStream] | None = None,
    ) -> int:
        """Handle the whole frames at the start of ``data``; returns how many bytes that were.

        Where ``lent`` is given, data for readers that wait is not copied: their streams are added
        to ``lent``, and ``Receiver.keep`` must be called with it before ``data`` becomes invalid.
        Raises ProtocolError.
        """
        if carrier.state is CarrierState.DEAD or self._state.closed is not None:
            return len(data)  # its final count was already sent
        at, end, counted = 0, len(data), carrier.received
        unpack = HEADER.unpack_from
        while end - at >= HEADER_SIZE:
            word, number, offset = unpack(data, at)
            length = word & LENGTH_MASK
            if word >> LENGTH_BITS != _DATA or not 0 < length <= MAX_PAYLOAD:
                head = read_head(data, at)
                if head.end > end:
                    break
                self._handle(carrier, head, bytes(data[at + HEADER_SIZE : head.end]), now)
                counted += head.end - at if head.kind < FIRST_UNCOUNTED else 0
                at = head.end
                continue
            after = at + HEADER_SIZE + length
            if after > end:
                break
            if offset > MAX_OFFSET - MAX_PAYLOAD or not number:
                read_head(data, at)
            counted -= at
            frames, expected = [data[at + HEADER_SIZE : after]], offset + length
            at = after
            while end - at >= HEADER_SIZE:  # usually the next ones follow on it
                word, other, start = unpack(data, at)
                length = word & LENGTH_MASK
                after = at + HEADER_SIZE + length
                if (
                    start != expected
                    or other != number
                    or after > end
                    or word >> LENGTH_BITS != _DATA
                    or not 0 < length <= MAX_PAYLOAD
                ):
                    break
                frames.append(data[at + HEADER_SIZE : after])
                expected += length
                at = after
            counted += at
            self._take(number, offset, frames, now, lent)
        self._note_bytes(carrier, at, counted, now)
        return at

    def _take(
        self,
        number: int,
        offset: int,
        frames: list[memoryview],
        now: float,
        lent: list[EngineStream] | None,
    ) -> None:
        state = self._state
        stream = state.streams.find(number)
        if stream is None or not state.receiver.run(stream, offset, frames, now, lent):
            for payload in frames:
                if stream is None or not state.receiver.data(stream, offset, payload, now):
                    state.repeated += len(payload)
                    self._useless.count(now)
                offset += len(payload)
        if stream is not None and stream.waits_to_read:
            state.wake_reader(stream)

    def _note_bytes(self, carrier: EngineCarrier, count: int, counted: int, now: float) -> None:
        if (
            carrier.state is CarrierState.DEAD
        ):  # GONE about itself: what stands behind does not count
            return
        self._state.carriers.note_bytes(carrier, count, now)
        if counted != carrier.received:
            carrier.received = counted
            if carrier.owe_ack(now):
                self._state.is_sooner = True

    def _handle(self, carrier: EngineCarrier, head: Head, payload: bytes, now: float) -> None:
        handler = self._handlers.get(head.kind)
        if handler is None:
            raise ProtocolError("session: a handshake frame inside the session", stage="frame")
        if not handler(carrier, head, payload, now):
            self._useless.count(now)

    def _on_open(self, _: EngineCarrier, head: Head, payload: bytes, now: float) -> bool:
        self._useless.count(now)  # new ones count too: each makes work
        state = self._state
        stream = state.streams.find(head.stream)
        if stream is None or stream.is_open:
            return False
        stream.is_open = True
        stream.send_limit = max(stream.send_limit, head.offset)
        if state.streams.theirs > state.streams.limit:
            state.abort(stream, ResetReason.TOO_MANY)
        else:
            state.accepted.append((stream, payload))
        return True

    def _on_window(self, _: EngineCarrier, head: Head, __: bytes, ___: float) -> bool:
        sender = self._state.sender
        if head.stream == SESSION:
            is_news = sender.credit.raise_to(head.offset)
            sender.wake_blocked()
            return is_news
        stream = self._state.streams.find(head.stream)
        if stream is None or head.offset <= stream.send_limit:
            return False
        stream.send_limit = head.offset
        sender.wake_if_room(stream)
        return True

    def _on_fin(self, _: EngineCarrier, head: Head, __: bytes, ___: float) -> bool:
        stream = self._state.streams.find(head.stream)
        if stream is None or stream.final == head.offset:
            return False
        _settle_size(stream, head.offset)
        stream.receive_event(StreamEvent.END)
        self._state.wake_reader(stream)
        self._state.retire_if_over(stream)
        return True

    def _on_reset(self, _: EngineCarrier, head: Head, payload: bytes, __: float) -> bool:
        state = self._state
        stream = state.streams.find(head.stream)
        if stream is None:
            return False
        _settle_size(stream, head.offset)
        if not stream.receive_event(StreamEvent.CUT):
            return False
        stream.reason = stream.reason or _reset_reason(payload)
        state.receiver.discard(stream)
        state.grant_session()
        stream.waits_to_read = False
        state.woken.append(stream)  # also without a reader: a dial for it may be given up
        state.retire_if_over(stream)
        return True

    def _on_stop(self, _: EngineCarrier, head: Head, payload: bytes, __: float) -> bool:
        state = self._state
        stream = state.streams.find(head.stream)
        if stream is None or stream.sending is Sending.CUT:
            return False
        stream.reason = stream.reason or _reset_reason(payload)
        state.sender.cut(stream, _reset_reason(payload))
        state.wake_writer(stream)
        return True

    def _on_ack(self, on: EngineCarrier, head: Head, payload: bytes, now: float) -> bool:
        delay = int.from_bytes(payload) / MICROSECONDS
        is_news = self._state.carriers.on_ack(on, head.stream, head.offset, delay, now)
        self._state.sender.wake_blocked()
        if on.number != head.stream:  # other carriers may now carry what it did not deliver
            self._state.is_sooner = True
        return is_news

    def _on_ping(self, on: EngineCarrier, head: Head, _: bytes, __: float) -> bool:
        on.pong = head.offset
        return False

    def _on_pong(self, on: EngineCarrier, head: Head, _: bytes, now: float) -> bool:
        return self._state.carriers.on_pong(on, head.offset, now)

    def _on_ask(self, _: EngineCarrier, head: Head, __: bytes, now: float) -> bool:
        self._state.carriers.on_ask(head.stream, now)
        self._state.is_sooner = True
        return False

    def _on_gone(self, _: EngineCarrier, head: Head, __: bytes, now: float) -> bool:
        self._state.carriers.on_gone(head.stream, head.offset, now)
        self._state.is_sooner = True
        self._state.sender.wake_blocked()
        return False

    def _on_close(self, _: EngineCarrier, __: Head, payload: bytes, ___: float) -> bool:
        self._state.close(_close_reason(payload))
        return True


def _settle_size(stream: EngineStream, final: int) -> None:
    if final > stream.granted:
        raise ProtocolError("session: a stream ends beyond its window", stage="frame")
    stream.settle_size(final)


def _reset_reason(payload: bytes) -> ResetReason:
    """A reason of a later version counts as FAILURE."""
    try:
        return ResetReason(payload[0])
    except ValueError:
        return ResetReason.FAILURE


def _close_reason(payload: bytes) -> CloseReason:
    try:
        return CloseReason(payload[0])
    except ValueError:
        return CloseReason.DONE
