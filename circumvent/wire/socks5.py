"""SOCKS5, the server's half (RFC 1928) and its user/password login (RFC 1929), sans I/O.

Each ``parse_...`` function takes all bytes that arrived since the last message. It returns what
it read and how many bytes that took, or None when more bytes are needed; it raises ProtocolError
when no further byte can make the message right.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import Final, NamedTuple

from circumvent.errors import ProtocolError
from circumvent.wire.address import IPV4, IPV6, NAME, Destination
from circumvent.wire.requested import requested_destination

VERSION = 0x05
LOGIN_VERSION = 0x01
CONNECT = 0x01
MAX_MESSAGE = 513  # the longest message: a login with two fields of 255 bytes

NO_LOGIN = 0x00
USER_PASSWORD = 0x02

CHOOSE_NO_LOGIN: Final = bytes((VERSION, NO_LOGIN))
CHOOSE_USER_PASSWORD: Final = bytes((VERSION, USER_PASSWORD))
NO_ACCEPTABLE_METHOD: Final = bytes((VERSION, 0xFF))
LOGIN_ACCEPTED: Final = bytes((LOGIN_VERSION, 0))
LOGIN_REFUSED: Final = bytes((LOGIN_VERSION, 1))

_ADDRESS_START = 4  # VER CMD RSV ATYP
_IP_LENGTH = {IPV4: 4, IPV6: 16}


class Reply(enum.IntEnum):
    """Reply field of the answer to a request (RFC 1928 §6)."""

    SUCCEEDED = 0x00
    GENERAL_FAILURE = 0x01
    NOT_ALLOWED = 0x02
    NETWORK_UNREACHABLE = 0x03
    HOST_UNREACHABLE = 0x04
    REFUSED = 0x05
    TTL_EXPIRED = 0x06
    COMMAND_UNSUPPORTED = 0x07
    ADDRESS_UNSUPPORTED = 0x08


class Greeting(NamedTuple):
    """The login methods that a client offers (RFC 1928 §3)."""

    methods: bytes


class Login(NamedTuple):
    """User name and password as sent (RFC 1929 §2)."""

    username: bytes
    password: bytes


class Socks5Request(NamedTuple):
    """What a client asks for; ``destination`` is None for an unknown kind of address."""

    command: int
    destination: Destination | None


# The bound address is that of the far side, which no tunnel tells: all zero.
REPLIES: Final = {reply: bytes((VERSION, reply, 0, IPV4)) + bytes(6) for reply in Reply}


def parse_greeting(data: bytes) -> tuple[Greeting, int] | None:
    """Read ``VER | NMETHODS | METHODS`` (RFC 1928 §3); raises ProtocolError."""
    _check_version(data, VERSION)
    if len(data) < 2:  # noqa: PLR2004 - VER NMETHODS
        return None
    length = 2 + data[1]
    return (Greeting(data[2:length]), length) if len(data) >= length else None


def parse_login(data: bytes) -> tuple[Login, int] | None:
    """Read ``VER | ULEN | UNAME | PLEN | PASSWD`` (RFC 1929 §2); raises ProtocolError."""
    _check_version(data, LOGIN_VERSION)
    username = _field(data, 1)
    if username is None:
        return None
    after_username = 2 + len(username)
    password = _field(data, after_username)
    if password is None:
        return None
    return Login(username, password), after_username + 1 + len(password)


def parse_request(data: bytes) -> tuple[Socks5Request, int] | None:
    """Read ``VER | CMD | RSV | ATYP | ADDR | PORT`` (RFC 1928 §4); raises ProtocolError."""
    _check_version(data, VERSION)
    if len(data) < _ADDRESS_START:
        return None
    kind = data[3]
    if kind != NAME and kind not in _IP_LENGTH:
        return Socks5Request(data[1], None), _ADDRESS_START
    return _with_address(data, kind)


def _with_address(data: bytes, kind: int) -> tuple[Socks5Request, int] | None:
    start, end = _host_span(data, kind)
    if len(data) < end + 2:
        return None
    command, port = data[1], int.from_bytes(data[end : end + 2])
    if command != CONNECT:  # a datagram request names 0.0.0.0:0, which is no destination
        return Socks5Request(command, None), end + 2
    host = _host_text(kind, data[start:end])
    return Socks5Request(command, requested_destination(host, port)), end + 2


def _host_span(data: bytes, kind: int) -> tuple[int, int]:
    """Where the host starts and ends; as long as its length is unknown, it may be empty."""
    if kind != NAME:
        return _ADDRESS_START, _ADDRESS_START + _IP_LENGTH[kind]
    start = _ADDRESS_START + 1
    return start, start + (data[_ADDRESS_START] if len(data) >= start else 0)


def _host_text(kind: int, host: bytes) -> bytes:
    if kind == NAME:
        return host
    if kind == IPV4:
        return b"%d.%d.%d.%d" % tuple(host)
    return str(ipaddress.IPv6Address(host)).encode()


def _field(data: bytes, start: int) -> bytes | None:
    """The field behind a length byte at ``start``, or None when it is not complete."""
    if len(data) <= start:
        return None
    end = start + 1 + data[start]
    return data[start + 1 : end] if len(data) >= end else None


def _check_version(data: bytes, version: int) -> None:
    if data and data[0] != version:
        raise ProtocolError(f"version {data[0]} where {version} belongs", stage="request")
