"""Parses single values of the relay's files."""

from __future__ import annotations

import re

from circumvent.errors import LinkError
from circumvent.wire.address import MAX_PORT, Destination
from circumvent.wire.base64url import decode_base64
from circumvent.wire.host_port import parse_address

_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def parse_place(key: str, text: str) -> Destination:
    """Read ``HOST:PORT``; raises ValueError that names the key."""
    try:
        return Destination(*parse_address(text))
    except LinkError as error:
        raise ValueError(f"{key}: {error}") from None


def parse_key(key: str, text: str, size: int) -> bytes:
    """Read ``size`` bytes in base64url; raises ValueError that names the key."""
    try:
        raw = decode_base64(key, text)
    except LinkError as error:
        raise ValueError(str(error)) from None
    if len(raw) != size:
        raise ValueError(f"{key}: has {len(raw)} bytes instead of {size}; copy it again")
    return raw


def parse_ports(text: str) -> range:
    """Read a port or a range of them; raises ValueError."""
    match = _PORTS.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not 0 <= first <= last <= MAX_PORT:
        raise ValueError(f'refused_ports: "{text}" is not a port or a range such as "135-139"')
    return range(first, last + 1)
