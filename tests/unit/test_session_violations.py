"""A peer that breaks the rules is cut off, and never makes us hold more than we allow."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circumvent.errors import ProtocolError
from circumvent.memory import Memory
from circumvent.session.engine.carrier import EngineCarrier
from circumvent.session.engine.engine import Engine
from circumvent.session.engine.limits import (
    FIRST_CREDIT,
    FIRST_WINDOW,
    MAX_GAPS,
    MAX_USELESS,
    SessionLimits,
)
from circumvent.session.engine.stream import EngineStream, Receiving
from circumvent.wire.frames import (
    MAX_OFFSET,
    MAX_PAYLOAD,
    CloseReason,
    FrameKind,
    ResetReason,
    pack,
)

NOW = 100.0
LIMITS = SessionLimits(send=1 << 20, receive=1 << 20, streams=8)
NOBODY = b"somewhere"


class Victim:
    """A relay's engine with one carrier, and frames thrown at it."""

    def __init__(self, limits: SessionLimits = LIMITS) -> None:
        self.memory = Memory(8 << 20, poison=True)
        self.engine = Engine(
            self.memory.account("session"), limits, NOW, random.Random(1), is_client=False
        )
        self.carrier: EngineCarrier = self.engine.attach(1, 0.02, NOW)

    def take(self, *frames: bytes) -> int:
        data = b"".join(frames)
        return self.engine.receive(self.carrier, memoryview(data), NOW)

    def written(self) -> bytes:
        block = memoryview(bytearray(1 << 16))
        return bytes(block[: self.engine.fill(self.carrier, block, NOW)])

    @property
    def held(self) -> int:
        return self.memory.accounts["session"].held


@pytest.fixture
def victim() -> Victim:
    return Victim()


def data(stream: int, offset: int, size: int) -> bytes:
    return pack(FrameKind.DATA, stream, offset, bytes(size))


def full(stream: int) -> list[bytes]:
    """Everything that a new stream may bring."""
    starts = range(0, FIRST_WINDOW, MAX_PAYLOAD)
    return [data(stream, at, min(MAX_PAYLOAD, FIRST_WINDOW - at)) for at in starts]


OPEN = pack(FrameKind.OPEN, 1, FIRST_WINDOW, NOBODY)
RESET = bytes((ResetReason.CANCELLED,))

VIOLATIONS = {
    "data beyond the stream's window": [OPEN, data(1, FIRST_WINDOW, 1)],
    "data across the stream's window": [OPEN, data(1, FIRST_WINDOW - 1, 2)],
    "data that runs on beyond the window": [OPEN, *full(1), data(1, FIRST_WINDOW, 1)],
    "data that runs on behind the end": [
        OPEN,
        pack(FrameKind.FIN, 1, 9),
        data(1, 0, 8),
        data(1, 8, 2),
    ],
    "an offset out of range": [OPEN, data(1, MAX_OFFSET, 1)],
    "a window out of range": [pack(FrameKind.WINDOW, 0, MAX_OFFSET + 1)],
    "bytes acknowledged before they were sent": [pack(FrameKind.ACK, 1, 1 << 20, bytes(4))],
    "final bytes that were never sent": [pack(FrameKind.GONE, 1, 1 << 20)],
    "a stream beyond all limits": [data(4 * LIMITS.streams + 1, 0, 1)],
    "a stream of ours that we never opened": [data(2, 0, 1)],
    "an end that moves": [OPEN, pack(FrameKind.FIN, 1, 10), pack(FrameKind.FIN, 1, 11)],
    "an end before what was sent": [OPEN, data(1, 0, 10), pack(FrameKind.FIN, 1, 9)],
    "data behind the end": [OPEN, pack(FrameKind.FIN, 1, 10), data(1, 10, 1)],
    "an end beyond the window": [OPEN, pack(FrameKind.FIN, 1, FIRST_WINDOW + 1)],
    "a reset that moves the end": [
        OPEN,
        pack(FrameKind.FIN, 1, 9),
        pack(FrameKind.RESET, 1, 10, RESET),
    ],
    "frames that overlap": [OPEN, data(1, 0, 10), data(1, 5, 10)],
    "an unknown kind": [pack(FrameKind.DATA, 1, 0, b"x")[1:].rjust(17, b"\x7f")],
    "data for no stream": [data(0, 0, 1)],
    "a handshake inside the session": [pack(FrameKind.HELLO, 0, 0, b"x")],
    "an empty DATA": [pack(FrameKind.DATA, 1, 0)],
    "a RESET without a reason": [pack(FrameKind.RESET, 1, 0)],
    "a frame longer than any": [
        bytes.fromhex("01ffffff 00000001 0000000000000000"),
    ],
}


@pytest.mark.parametrize("frames", VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_ends_the_session(victim: Victim, frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError, match="session"):
        victim.take(*frames)


def test_credit_bounds_all_streams_together(victim: Victim) -> None:
    frames = [
        data(number, offset, min(MAX_PAYLOAD, FIRST_WINDOW - offset))
        for number in range(1, 4 * LIMITS.streams, 2)
        for offset in range(0, FIRST_WINDOW, MAX_PAYLOAD)
    ]
    assert 2 * LIMITS.streams * FIRST_WINDOW > LIMITS.receive // 2 > FIRST_CREDIT
    with pytest.raises(ProtocolError, match="granted"):
        victim.take(*frames)
    assert victim.held <= LIMITS.receive


def test_bytes_that_a_reset_says_were_sent_count_as_sent() -> None:
    victim = Victim(SessionLimits(send=1 << 20, receive=4 * FIRST_WINDOW))
    victim.take(OPEN, pack(FrameKind.RESET, 1, FIRST_WINDOW, RESET))
    assert pack(FrameKind.WINDOW, 0, 3 * FIRST_WINDOW) in victim.written()
    victim.take(*full(3), *full(5))
    with pytest.raises(ProtocolError, match="granted"):
        victim.take(data(7, 0, 1))


USELESS = {
    "PING": pack(FrameKind.PING, 0, 7),
    "PONG": pack(FrameKind.PONG, 0, 7),
    "old ACK": pack(FrameKind.ACK, 1, 0, bytes(4)),
    "ACK of nobody": pack(FrameKind.ACK, 99, 0, bytes(4)),
    "ASK": pack(FrameKind.ASK, 1, 0),
    "GONE of nobody": pack(FrameKind.GONE, 99, 0),
    "old WINDOW": pack(FrameKind.WINDOW, 0, 1),
    "old stream WINDOW": pack(FrameKind.WINDOW, 1, 1),
    "STOP of a closed stream": pack(FrameKind.STOP, 1, 0, RESET),
    "duplicate": data(1, 0, 1),
    "second OPEN": OPEN,
}


@pytest.mark.parametrize("frame", USELESS.values(), ids=USELESS)
def test_endless_useless_frames_are_cut_off(victim: Victim, frame: bytes) -> None:
    victim.take(OPEN, data(1, 0, 1))
    with pytest.raises(ProtocolError, match="flood"):
        victim.take(*[frame] * (MAX_USELESS + 2))
    assert len(victim.written()) < 1024, "every useless frame was answered"
    assert victim.held <= 1 << 16


def test_a_few_useless_frames_do_no_harm(victim: Victim) -> None:
    victim.take(OPEN, data(1, 0, 1), *USELESS.values(), data(1, 1, 1))
    ((stream, _),) = victim.engine.state.accepted
    assert victim.engine.read_into(stream, memoryview(bytearray(9)), NOW) == 2


def test_what_a_waiting_reader_did_not_take_is_kept(victim: Victim) -> None:
    victim.take(OPEN)
    ((stream, _),) = victim.engine.state.accepted
    stream.waits_to_read = True
    block = bytearray(data(1, 0, 5) + data(1, 5, 5))
    lent: list[EngineStream] = []
    victim.engine.receive(victim.carrier, memoryview(block), NOW, lent)
    victim.engine.receiver.keep(lent)
    block[:] = b"?" * len(block)
    buffer = memoryview(bytearray(99))
    assert victim.engine.read_into(stream, buffer, NOW) == 10
    assert bytes(buffer[:10]) == bytes(10)


def test_more_streams_than_allowed_are_refused_one_by_one(victim: Victim) -> None:
    for number in range(1, 4 * LIMITS.streams, 2):
        victim.take(pack(FrameKind.OPEN, number, 0, NOBODY))
    assert len(victim.engine.state.accepted) == LIMITS.streams
    refusals = victim.written().count(pack(FrameKind.RESET, 2 * LIMITS.streams + 1, 0, b"\x0a"))
    assert refusals == 1


def test_tiny_pieces_out_of_order_are_bounded(victim: Victim) -> None:
    victim.take(OPEN)
    cut_off = False
    for offset in range(1, 4 * MAX_GAPS, 2):
        try:
            victim.take(data(1, offset, 1))
        except ProtocolError:
            cut_off = True
            break
        assert victim.held <= LIMITS.receive
    (stream, _), *_ = victim.engine.state.accepted
    assert cut_off or stream.receiving is not Receiving.OPEN, "its stream at least must be cut"


def test_tiny_pieces_in_order_share_a_block(victim: Victim) -> None:
    victim.take(OPEN, *[data(1, offset, 1) for offset in range(4000)])
    assert victim.held == 4096


def test_after_the_violation_nothing_is_held(victim: Victim) -> None:
    victim.take(OPEN, data(1, 0, 1000), data(3, 500, 1000))
    victim.engine.state.close(CloseReason.VIOLATION)
    assert victim.held == 0


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Mostly well-formed frames with numbers that matter."""
    kind = draw(st.sampled_from(list(FrameKind)))
    number = draw(st.sampled_from([0, 1, 1, 1, 2, 3, 5, 17, 0xFFFFFFFF]))
    offset = draw(
        st.sampled_from([0, 0, 1, 10, 100, FIRST_WINDOW, MAX_OFFSET, (1 << 64) - 1])
        | st.integers(0, 300)
    )
    size = {
        FrameKind.ACK: 4,
        FrameKind.RESET: 1,
        FrameKind.STOP: 1,
        FrameKind.CLOSE: 1,
        FrameKind.DATA: 10,
    }.get(kind, 0)
    return pack(kind, number, offset, draw(st.binary(min_size=size, max_size=size)))


@settings(max_examples=60)
@given(st.lists(frames() | st.binary(max_size=40), max_size=60), st.integers(1, 5000))
def test_whatever_comes_is_taken_or_refused(pieces: list[bytes], cut: int) -> None:
    victim = Victim()
    stream = victim.engine.open(b"")
    victim.engine.write(stream, memoryview(b"some words"))
    victim.written()
    wire, left = b"".join(pieces), b""
    with contextlib.suppress(ProtocolError):
        for start in range(0, len(wire), cut):
            left += wire[start : start + cut]
            left = left[victim.take(left) :]
            victim.engine.tick(NOW)
            victim.written()
    assert victim.held <= LIMITS.send + LIMITS.receive
