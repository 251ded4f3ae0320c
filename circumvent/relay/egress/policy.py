"""Which destinations users may reach: the public Internet, and none of the relay's networks."""

from __future__ import annotations

import ipaddress
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from circumvent.net.addresses import embedded, is_ours, is_public

IPV4_ROUTES, IPV6_ROUTES = Path("/proc/net/route"), Path("/proc/net/ipv6_route")
_IPV4_FIELDS, _IPV6_FIELDS = 8, 10
ROUTES_SECONDS = 10.0  # between two reads of the routes; a read costs as much as 100 decisions
_UP, _GATEWAY, _REJECT = 0x1, 0x2, 0x200  # linux/route.h


def networks_on_link() -> Iterator[IPv4Network | IPv6Network]:
    """The networks that this machine reaches without a router, as proc(5) tells them.

    None where the kernel does not tell. A network larger than a /8 (IPv6: /32) is left out: such a
    route belongs to a tunnel, and what is behind it is far away.
    """
    for file, read, least in ((IPV4_ROUTES, _ipv4_route, 8), (IPV6_ROUTES, _ipv6_route, 32)):
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            network = read(line.split())
            if network is not None and network.prefixlen >= least:
                yield network


def _ipv4_route(fields: list[str]) -> IPv4Network | None:
    """``interface destination gateway flags ... mask``; addresses in the CPU's byte order."""
    if len(fields) < _IPV4_FIELDS or fields[0] == "Iface":  # the heading
        return None
    if int(fields[3], 16) & (_UP | _GATEWAY) != _UP:
        return None
    destination, mask = (
        IPv4Address(int(field, 16).to_bytes(4, sys.byteorder)) for field in (fields[1], fields[7])
    )
    return IPv4Network((destination, str(mask)), strict=False)


def _ipv6_route(fields: list[str]) -> IPv6Network | None:
    """``destination prefix source prefix gateway metric references uses flags interface``."""
    if len(fields) < _IPV6_FIELDS or int(fields[8], 16) & (_UP | _GATEWAY | _REJECT) != _UP:
        return None
    return IPv6Network((bytes.fromhex(fields[0]), int(fields[1], 16)), strict=False)


class EgressPolicy:
    """Decides on ports (``refused``) and addresses; ``allow_private`` is for labs.

    ``now`` is a clock in seconds.
    """

    def __init__(
        self,
        refused: Iterable[range],
        *,
        allow_private: bool,
        allow_neighbours: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._refused = tuple(refused)
        self._allow_private = allow_private
        self._allow_neighbours = allow_neighbours
        self._on_link: tuple[IPv4Network | IPv6Network, ...] = ()
        self._now = now
        self._read_at = -math.inf

    def allows_port(self, port: int) -> bool:
        """Whether users may reach ``port``."""
        return not any(port in ports for ports in self._refused)

    def allows(self, address: str) -> bool:
        """Whether users may reach an IP address."""
        if self._allow_private:
            return True
        if not is_public(address) or is_ours(address):
            return False
        return self._allow_neighbours or not self._is_neighbour(ipaddress.ip_address(address))

    def _is_neighbour(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether the machine reaches it without a router; an IPv4 address inside of IPv6 too.

        Services there may trust the network that they share with the relay.
        """
        now = self._now()
        if now - self._read_at >= ROUTES_SECONDS:
            self._read_at, self._on_link = now, tuple(networks_on_link())
        inner = embedded(address)
        return any(address in each or (inner and inner in each) for each in self._on_link)
