"""A carrier as HTTP requests, for fronts that pass nothing else; sans I/O.

Every request knocks (``wire.knock``); the knock's note says which carrier it belongs to and
at which offset of the stream its bytes begin: ``carrier (16) | u64 offset | u8 flags``.

- UPLOAD: the body of a POST begins at ``offset`` of what the client sends. Several may be under
  way; the relay takes them in order, drops what it has already, and answers when it has it all. So
  a request that failed may be sent again as it is. ``LAST``: nothing follows.
- DOWNLOAD: the answer to a GET is ``GREETING`` and then what the relay sends from ``offset`` on,
  without end. What a front lost is lost: an ``offset`` that is not what the relay has sent so far
  ends the carrier. ``SHORT``: the answer ends as soon as it holds some bytes, for fronts
  that hold an answer back until it is complete.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from circumvent.errors import ProtocolError

CARRIER_SIZE = 16  # bytes, random
MAX_UPLOAD = 64 * 1024  # bytes of one POST; far below what any front allows
UPLOADS_AT_ONCE = 2  # one is under way while the other is answered: a front's delay counts half
GREETING: Final = b"\n"  # a front that shows it at once passes on what follows at once

_NOTE = struct.Struct(f">{CARRIER_SIZE}sQB")

# A web server in front of the relay, and a CDN, must not keep answers, pack or hold them back.
DOWNLOAD_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
    b"Cache-Control: no-store, no-transform\r\n"
    b"X-Accel-Buffering: no\r\nConnection: close\r\n\r\n"
)
TAKEN: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
GONE: Final = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Flags(IntFlag):
    """Further facts of a request."""

    NONE = 0
    SHORT = 1
    LAST = 2


@dataclass(frozen=True, slots=True)
class Note:
    """Which carrier a request's bytes belong to, and where they begin."""

    carrier: bytes
    offset: int
    flags: Flags = Flags.NONE


def pack_note(note: Note) -> bytes:
    """The note of a knock."""
    return _NOTE.pack(note.carrier, note.offset, note.flags)


def parse_note(data: bytes) -> Note:
    """Read a knock's note; raises ProtocolError."""
    try:
        carrier, offset, flags = _NOTE.unpack(data)
    except struct.error:
        raise ProtocolError("a knock without its carrier", stage="carrier") from None
    return Note(carrier, offset, Flags(flags & (Flags.SHORT | Flags.LAST)))
