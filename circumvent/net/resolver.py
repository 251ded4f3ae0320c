"""Addresses of servers. Never used for what a user visits: those names stay with the tunnel."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Sequence
from functools import lru_cache

from circumvent.errors import DialError

_SERVERS = 256  # hosts of servers that are remembered to be addresses or names
_KEPT_SECONDS = 300.0  # a server that moves is found again, and no stream waits for a look-up


class Resolver:
    """Resolves servers' names by the system's resolver, and keeps what it found for a while."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, Sequence[str] | None]] = {}

    async def resolve(self, name: str) -> Sequence[str]:
        """IP addresses of ``name``, in the system's order; raises DialError."""
        known = self.known(name)
        if known is None:
            known = await _ask_system(name)
            self._kept[name] = time.monotonic() + _KEPT_SECONDS, known
        return known

    def known(self, name: str) -> Sequence[str] | None:
        """What ``resolve`` need not ask for."""
        if _is_address(name):
            return (name,)
        until, addresses = self._kept.get(name, (0.0, None))
        return addresses if time.monotonic() < until else None

    def forget(self, name: str) -> None:
        """Ask anew next time: nothing answers at the addresses that are known."""
        self._kept.pop(name, None)

    def forget_all(self) -> None:
        """Ask anew for every name."""
        self._kept.clear()


async def _ask_system(name: str) -> Sequence[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        message = "the server's name does not resolve"
        raise DialError(message, stage="resolve", errno=error.errno) from error
    return tuple(dict.fromkeys(str(address[4][0]) for address in found))


@lru_cache(maxsize=_SERVERS)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
