"""SOCKS4 and SOCKS4a, the server's half, sans I/O: ``VN CD PORT IP user 00 [name 00]``."""

from __future__ import annotations

from typing import Final, NamedTuple

from circumvent.errors import ProtocolError
from circumvent.wire.address import MAX_NAME, Destination
from circumvent.wire.requested import requested_destination

VERSION = 0x04
CONNECT = 0x01
MAX_USER = 255  # the protocol has no limit; that of SOCKS5 is more than enough
_USER_START = 8  # VN CD PORT IP
MAX_MESSAGE = _USER_START + MAX_USER + 1 + MAX_NAME + 1

GRANTED: Final = bytes((0, 0x5A)) + bytes(6)
REJECTED: Final = bytes((0, 0x5B)) + bytes(6)


class Socks4Request(NamedTuple):
    """What a client asks for; ``destination`` is None unless it is a CONNECT."""

    command: int
    destination: Destination | None


def parse_request(data: bytes) -> tuple[Socks4Request, int] | None:
    """Return the request and its length, or None when more bytes are needed.

    An address 0.0.0.x with x above 0 announces a name (SOCKS4a). Raises ProtocolError.
    """
    if data and data[0] != VERSION:
        raise ProtocolError(f"version {data[0]} where {VERSION} belongs", stage="request")
    user_end = _end_of_text(data, _USER_START, MAX_USER)
    if user_end is None:
        return None
    address = data[4:8]
    if address[:3] != bytes(3) or not address[3]:
        return _request(data, b"%d.%d.%d.%d" % tuple(address)), user_end
    name_end = _end_of_text(data, user_end, MAX_NAME)
    if name_end is None:
        return None
    return _request(data, data[user_end : name_end - 1]), name_end


def _request(data: bytes, host: bytes) -> Socks4Request:
    command = data[1]
    if command != CONNECT:
        return Socks4Request(command, None)
    return Socks4Request(command, requested_destination(host, int.from_bytes(data[2:4])))


def _end_of_text(data: bytes, start: int, limit: int) -> int | None:
    """Where the text from ``start`` ends, its NUL included; None until that has arrived."""
    end = data.find(0, start, start + limit + 1)
    if end >= 0:
        return end + 1
    if len(data) > start + limit:
        raise ProtocolError(f"a text of more than {limit} bytes", stage="request")
    return None
