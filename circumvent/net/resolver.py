"""Addresses of servers. Never used for what a user visits: those names stay with the tunnel."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

from circumvent.errors import DialError


async def resolve(name: str) -> Sequence[str]:
    """IP addresses of ``name`` by the system's resolver, in its order; raises DialError."""
    if _is_address(name):
        return (name,)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        message = "the server's name does not resolve"
        raise DialError(message, stage="resolve", errno=error.errno) from error
    return tuple(dict.fromkeys(str(address[4][0]) for address in found))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
