"""Frames of a bonded session (docs/session-protocol.md, section 4), sans I/O.

``u8 kind | u24 length | u32 stream | u64 offset | payload``, big-endian. A frame holds nothing
that belongs to one carrier, so it can be sent again on another one as it is.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from circumvent.errors import ProtocolError

VERSION = 1
HEADER: Final = struct.Struct(">IIQ")
HEADER_SIZE: Final = HEADER.size
MAX_FRAME: Final = 16 * 1024  # with its header exactly one full TLS record (RFC 8446 §5.1)
MAX_PAYLOAD: Final = MAX_FRAME - HEADER_SIZE
RUNS = (4, 2)  # full frames of one stream that may be handled together
MAX_RUN: Final = RUNS[0] * MAX_FRAME
MAX_OPENING = 512  # bytes; a destination has at most 259
MAX_HELLO = 1024  # bytes; a credential is a token, not a document
MAX_OFFSET = (1 << 62) - 1  # no stream gets so long: sums of offsets fit 64 bits
LENGTH_BITS = 24
LENGTH_MASK: Final = (1 << LENGTH_BITS) - 1
SESSION = 0  # stream number of frames that concern the whole session


class FrameKind(IntEnum):
    """What a frame is for. Below ``FIRST_UNCOUNTED`` it counts as reliable and may come twice."""

    DATA = 0x01
    OPEN = 0x02
    WINDOW = 0x03
    FIN = 0x04
    RESET = 0x05
    STOP = 0x06
    ACK = 0x10
    PING = 0x11
    PONG = 0x12
    ASK = 0x13
    GONE = 0x14
    HELLO = 0x20
    WELCOME = 0x21
    CLOSE = 0x22


FIRST_UNCOUNTED: Final = FrameKind.ACK


class ResetReason(IntEnum):
    """Why one direction of a stream was cut; the payload of RESET and STOP."""

    CANCELLED = 0
    FAILURE = 1
    FORBIDDEN = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TIMED_OUT = 6
    BROKEN = 7  # the destination cut a connection that had been open
    MEMORY = 8
    STALLED = 9
    TOO_MANY = 10
    DRAINING = 11


class CloseReason(IntEnum):
    """Why a session, or a carrier that wanted to join one, was ended; the payload of CLOSE."""

    DONE = 0
    VIOLATION = 1
    UNKNOWN_SESSION = 2
    REFUSED = 3
    VERSION = 4
    BUSY = 5
    DRAINING = 6


class Head(NamedTuple):
    """A frame's header; ``end`` is where the frame ends, counted as ``start`` was."""

    kind: int
    stream: int
    offset: int
    end: int


# Payload bytes that each kind may have, at least and at most.
_LENGTHS: dict[int, tuple[int, int]] = {
    FrameKind.DATA: (1, MAX_PAYLOAD),
    FrameKind.OPEN: (0, MAX_OPENING),
    FrameKind.WINDOW: (0, 0),
    FrameKind.FIN: (0, 0),
    FrameKind.RESET: (1, 1),
    FrameKind.STOP: (1, 1),
    FrameKind.ACK: (4, 4),
    FrameKind.PING: (0, 0),
    FrameKind.PONG: (0, 0),
    FrameKind.ASK: (0, 0),
    FrameKind.GONE: (0, 0),
    FrameKind.HELLO: (1, MAX_HELLO),
    FrameKind.WELCOME: (1, MAX_HELLO),
    FrameKind.CLOSE: (1, 1),
}
_ABOUT_STREAMS = (FrameKind.DATA, FrameKind.OPEN, FrameKind.FIN, FrameKind.RESET, FrameKind.STOP)


def pack(kind: FrameKind, stream: int, offset: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return HEADER.pack(kind << LENGTH_BITS | len(payload), stream, offset) + payload


# A PONG without meaning: PINGs have shorter numbers, so it answers none of them.
PAD: Final = pack(FrameKind.PONG, SESSION, 1 << 32)


def read_head(data: memoryview | bytes, start: int = 0) -> Head:
    """The header at ``start``, of which HEADER_SIZE bytes are there; raises ProtocolError."""
    word, stream, offset = HEADER.unpack_from(data, start)
    kind, length = word >> LENGTH_BITS, word & LENGTH_MASK
    least, most = _LENGTHS.get(kind, (1, 0))
    if least > most:
        raise ProtocolError(f"session: unknown frame kind {kind:#04x}", stage="frame")
    if not least <= length <= most:
        raise ProtocolError(f"session: {FrameKind(kind).name} with {length} bytes", stage="frame")
    if offset + length > MAX_OFFSET:
        raise ProtocolError("session: an offset is out of range", stage="frame")
    if not stream and kind in _ABOUT_STREAMS:
        raise ProtocolError(f"session: {FrameKind(kind).name} without a stream", stage="frame")
    return Head(kind, stream, offset, start + HEADER_SIZE + length)
