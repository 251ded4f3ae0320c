"""Where users' streams may lead: to the public Internet, and on no way back into our networks."""

from __future__ import annotations

import ipaddress
import sys
import time
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from circumvent.net.addresses import embedded, is_ours, is_public

IPV4_ROUTES, IPV6_ROUTES = Path("/proc/net/route"), Path("/proc/net/ipv6_route")
_IPV4_FIELDS, _IPV6_FIELDS = 8, 10
LOOK_SECONDS = 10.0  # between two looks at the routes: a look costs as much as 100 judgements
_UP, _GATEWAY, _REJECT = 0x1, 0x2, 0x200  # linux/route.h


def networks_on_link() -> Iterator[IPv4Network | IPv6Network]:
    """The networks that this machine is on (proc(5)); none where the kernel does not tell.

    A route to half of the Internet without a router is a tunnel's, and no neighbourhood.
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
    """``interface destination gateway flags ... mask``: addresses as the machine holds them."""
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
    """``refused`` are ports; ``allow_private`` is for labs."""

    def __init__(
        self, refused: Iterable[range], *, allow_private: bool, allow_neighbours: bool = False
    ) -> None:
        self._refused = tuple(refused)
        self._allow_private = allow_private
        self._allow_neighbours = allow_neighbours
        self._on_link: tuple[IPv4Network | IPv6Network, ...] = ()
        self._looked_at = -LOOK_SECONDS

    def allows_port(self, port: int) -> bool:
        """Whether streams may lead to ``port``."""
        return not any(port in ports for ports in self._refused)

    def allows(self, address: str) -> bool:
        """Whether streams may lead to an IP address."""
        if self._allow_private:
            return True
        if not is_public(address) or is_ours(address):
            return False
        return self._allow_neighbours or not self._is_neighbour(ipaddress.ip_address(address))

    def _is_neighbour(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether the machine reaches it without a router, also where it stands inside of IPv6.

        What listens there may trust the network that both are on, whoever's it is.
        """
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at, self._on_link = now, tuple(networks_on_link())
        inner = embedded(address)
        return any(address in each or (inner and inner in each) for each in self._on_link)
