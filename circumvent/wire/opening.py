"""The payload of OPEN: a stream's destination, as in SOCKS5 (RFC 1928 §5)."""

from __future__ import annotations

import ipaddress

from circumvent.errors import ProtocolError
from circumvent.wire.address import IPV4, IPV6, NAME, Destination
from circumvent.wire.requested import requested_destination

_SIZES = {IPV4: 4, IPV6: 16}
_PORT = 2


def format_opening(destination: Destination) -> bytes:
    """``ATYP | address | port``; ValueError when the name does not fit the wire."""
    return destination.encode()


def parse_opening(data: bytes) -> Destination:
    """The destination that all of ``data`` names; raises ProtocolError."""
    kind = data[0] if data else 0
    start = 2 if kind == NAME else 1
    size = data[1] if kind == NAME and len(data) > 1 else _SIZES.get(kind, 0)
    if not size or len(data) != start + size + _PORT:
        raise ProtocolError("session: OPEN names no destination", stage="open")
    host, port = data[start:-_PORT], int.from_bytes(data[-_PORT:])
    if kind == NAME and not host.isascii():
        raise ProtocolError("session: OPEN names a host that is not in ASCII", stage="open")
    if kind != NAME:
        host = str(ipaddress.ip_address(host)).encode()
    return requested_destination(host, port)
