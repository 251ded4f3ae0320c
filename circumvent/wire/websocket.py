"""WebSocket frames (RFC 6455 §5), packed and unpacked within the caller's block; sans I/O.

The bounds of messages have no meaning here: binary frames carry a stream, and anybody on the way
may cut it into other frames. Text, reserved bits and extensions are refused; none is ever offered.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import cache
from typing import NamedTuple

from circumvent.errors import ProtocolError

MAX_HEADER = 14  # two bytes, eight of length, four of key
MAX_CONTROL = 125  # RFC 6455 §5.5
NORMAL, LEAVING, PROTOCOL_ERROR = 1000, 1001, 1002  # RFC 6455 §7.4.1
_NO_CODE = 1005
_KEY = 4
_FIN, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_PIECE = 16 * 1024  # the library returns a copy; this small, it costs little


class Opcode(IntEnum):
    """RFC 6455 §11.8."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Header(NamedTuple):
    """What comes before a payload of ``length`` bytes; ``size`` is the header's own length."""

    size: int
    fin: bool
    opcode: Opcode
    length: int
    key: bytes


def parse_header(data: bytes, *, masked: bool) -> Header | None:
    """The header at the start of ``data``, None while it is incomplete; raises ProtocolError.

    ``masked``: whether the peer must mask; clients do, servers do not.
    """
    if len(data) < 2:  # noqa: PLR2004 - the part that every header has
        return None
    first, second = data[0], data[1]
    if bool(second & _MASKED) is not masked:
        raise _bad("a client that does not mask" if masked else "a server that masks")
    length, at = _parse_length(data, second & ~_MASKED)
    size = at + (_KEY if masked else 0)
    if length is None or len(data) < size:
        return None
    opcode = _parse_opcode(first, length)
    return Header(size, bool(first & _FIN), opcode, length, bytes(data[at:size]))


def _parse_length(data: bytes, short: int) -> tuple[int | None, int]:
    """The payload's length, None while it is incomplete, and where it ends."""
    if short < _TWO_BYTES:
        return short, 2
    end, least = (4, _TWO_BYTES) if short == _TWO_BYTES else (10, 1 << 16)
    if len(data) < end:
        return None, end
    length = int.from_bytes(data[2:end])
    if not least <= length < 1 << 63:
        raise _bad("a length that is not in its shortest form")
    return length, end


def _parse_opcode(first: int, length: int) -> Opcode:
    if first & _RESERVED:
        raise _bad("an extension that was not offered")
    try:
        opcode = Opcode(first & 0x0F)
    except ValueError:
        raise _bad("an unknown kind of frame") from None
    if opcode is Opcode.TEXT:
        raise _bad("text where bytes are expected")
    if opcode >= Opcode.CLOSE and (not first & _FIN or length > MAX_CONTROL):
        raise _bad("a control frame that is too long or in pieces")
    return opcode


def put_header(
    block: memoryview, end: int, length: int, key: bytes, opcode: Opcode = Opcode.BINARY
) -> int:
    """Write a header so that it ends at ``end``; returns where it starts."""
    header = make_header(length, key, opcode)
    start = end - len(header)
    block[start:end] = header
    return start


def make_header(length: int, key: bytes, opcode: Opcode) -> bytes:
    """The header of a whole frame; servers do not mask, and give an empty ``key``."""
    mask_bit = _MASKED if key else 0
    first = _FIN | opcode
    if length < _TWO_BYTES:
        return bytes((first, mask_bit | length)) + key
    if length < 1 << 16:
        return bytes((first, mask_bit | _TWO_BYTES)) + length.to_bytes(2) + key
    return bytes((first, mask_bit | _EIGHT_BYTES)) + length.to_bytes(8) + key


def make_control(opcode: Opcode, payload: bytes, key: bytes) -> bytes:
    """A whole control frame, of at most ``MAX_CONTROL`` bytes of payload."""
    body = bytearray(payload)
    if key:
        mask(memoryview(body), key)
    return make_header(len(body), key, opcode) + body


def make_close(key: bytes, code: int = NORMAL) -> bytes:
    """A whole close frame."""
    return make_control(Opcode.CLOSE, code.to_bytes(2), key)


@cache
def _masker() -> Callable[[memoryview, bytes], bytes]:
    try:
        from websockets.speedups import apply_mask  # noqa: PLC0415 - only clients mask
    except ImportError:  # built without: twenty times slower
        from websockets.utils import apply_mask  # noqa: PLC0415
    return apply_mask


def mask(view: memoryview, key: bytes, at: int = 0) -> None:
    """Mask or unmask in place; ``view`` starts at byte ``at`` of the payload."""
    key = key[at % _KEY :] + key[: at % _KEY]
    apply = _masker()
    for start in range(0, len(view), _PIECE):
        piece = view[start : start + _PIECE]
        piece[:] = apply(piece, key)


class FrameReader:
    """Takes payloads out of what a peer sends.

    ``ping`` is the payload of the last ping, until the owner has answered and cleared it.
    ``closed`` is the code of the peer's close frame; what follows that is ignored.
    """

    __slots__ = ("_at", "_begun", "_control", "_fragmented", "_header", "_masked", "closed", "ping")

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked
        self._begun = b""  # the first bytes of a header that is incomplete
        self._header: Header | None = None
        self._at = 0  # bytes of the payload that came
        self._control = b""
        self._fragmented = False  # inside a message whose next frame must be a continuation
        self.ping: bytes | None = None
        self.closed: int | None = None

    @property
    def is_between_messages(self) -> bool:
        """Whether nothing has begun that is not complete."""
        return not self._begun and self._header is None and not self._fragmented

    def unpack(self, view: memoryview) -> int:
        """Move all payload in ``view`` to its front; returns its size. Raises ProtocolError."""
        at = used = 0
        while at < len(view) and self.closed is None:
            if self._header is None:
                at = self._take_header(view, at)
                if self._header is None:
                    break
            size = min(self._header.length - self._at, len(view) - at)
            used += self._take_payload(view, at, size, used)
            at += size
            if self._at == self._header.length:
                self._end_frame(self._header)
        return used

    def _take_header(self, view: memoryview, at: int) -> int:
        begun = len(self._begun)
        data = self._begun + bytes(view[at : at + MAX_HEADER - begun])
        header = parse_header(data, masked=self._masked)
        if header is None:
            self._begun = data
            return len(view)
        self._check_order(header)
        self._begun, self._header, self._at = b"", header, 0
        return at + header.size - begun

    def _check_order(self, header: Header) -> None:
        """RFC 6455 §5.4: control frames may come between the fragments of a message."""
        if header.opcode >= Opcode.CLOSE:
            return
        if (header.opcode is Opcode.CONTINUATION) is not self._fragmented:
            raise _bad("fragments in the wrong order")
        self._fragmented = not header.fin

    def _take_payload(self, view: memoryview, at: int, size: int, used: int) -> int:
        assert self._header is not None  # noqa: S101 - for the checker
        piece = view[at : at + size]
        if self._header.key:
            mask(piece, self._header.key, self._at)
        self._at += size
        if self._header.opcode >= Opcode.CLOSE:
            self._control += bytes(piece)
            return 0
        view[used : used + size] = piece
        return size

    def _end_frame(self, header: Header) -> None:
        payload, self._control, self._header = self._control, b"", None
        if header.opcode is Opcode.PING:
            self.ping = payload
        elif header.opcode is Opcode.CLOSE:
            self.closed = _parse_close(payload)


def _parse_close(payload: bytes) -> int:
    if len(payload) == 1:
        raise _bad("half of a closing code")
    return int.from_bytes(payload[:2]) if payload else _NO_CODE


def is_orderly(code: int) -> bool:
    """Whether a closing code says that all went well."""
    return code in (NORMAL, LEAVING, _NO_CODE)


def _bad(what: str) -> ProtocolError:
    return ProtocolError(f"WebSocket: the peer sent {what}", stage="read")
