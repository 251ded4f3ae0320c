"""Destinations as a client of the inbound wrote them: checked before anything uses them."""

from __future__ import annotations

import ipaddress

from circumvent.errors import ProtocolError
from circumvent.wire.address import MAX_NAME, MAX_PORT, Destination, encode_name

SPACE = 0x20  # the space and the control characters below end lines and fields in many protocols
DELETE = 0x7F


def requested_destination(host: bytes, port: int) -> Destination:
    """The destination that a client named; names stay unresolved.

    Raises ProtocolError when no tunnel could carry the host or the port.
    """
    if not 0 < port <= MAX_PORT:
        raise ProtocolError("the client asked for an impossible port", stage="request")
    if not host or len(host) > MAX_NAME or min(host) <= SPACE or DELETE in host:
        raise ProtocolError("the client sent no host, or one with spaces", stage="request")
    try:
        return Destination(_checked(host), port)
    except ValueError:
        raise ProtocolError("the client sent a host that is none", stage="request") from None


def _checked(host: bytes) -> str:
    text = host.decode()
    if b":" in host:
        if ipaddress.IPv6Address(text).scope_id:
            raise ValueError("a zone means nothing at the far side")
    elif not host.isascii():
        return encode_name(text).decode()  # a later resolver might encode it in another way
    return text
