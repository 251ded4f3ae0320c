"""Which network this machine is on, as bytes to hash: the gateway's address and its MAC.

Linux has both in /proc; elsewhere the prefix of the local address is used.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from functools import cache
from pathlib import Path
from typing import NamedTuple

NOWHERE = b""
ROUTE_COLUMNS, ARP_COLUMNS, ROUTE6_COLUMNS = 11, 6, 10  # as in proc(5); shorter rows are skipped
DEFAULT_ROUTE = "00000000"
DEFAULT_ROUTE6 = "0" * 32
RESOLVED = 0x2  # linux/if_arp.h: ATF_COM, the MAC is known
IPV4_PREFIX, IPV6_PREFIX = 24, 64  # the usual size of a home network
# Documentation addresses (RFC 5737, RFC 3849): connecting a datagram socket sends nothing.
PROBES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))

Rows = list[list[str]]


def current_network(proc: Path = Path("/proc/net")) -> bytes:
    """Bytes that identify this network; ``NOWHERE`` when there is no route to others.

    When a later name starts with an earlier one, both are the same network, of which more is known.
    """
    return _whereabouts(proc).name()


class _Gateway(NamedTuple):
    address: str
    interface: str


class _Whereabouts:
    """Remembers what the kernel forgets while nothing changes.

    A gateway's MAC leaves the kernel's table when nothing was sent to it for a while, and a DHCP
    lease that is renewed may remove the IPv4 route for a moment.
    """

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._gateway: _Gateway | None = None
        self._mac = ""
        self._hop = ""
        self._name = NOWHERE

    def name(self) -> bytes:
        """See ``current_network``."""
        gateway = _ipv4_gateway(_rows(self._proc / "route"))
        hop = _ipv6_gateway(_rows(self._proc / "ipv6_route"))
        if gateway is not None:
            name = f"{gateway.address} {self._mac_of(gateway)}".encode()
        elif hop and hop == self._hop:
            return self._name
        else:
            name = hop.encode() or _by_local_address()
        if name:
            self._name, self._hop = name, hop
        return name

    def _mac_of(self, gateway: _Gateway) -> str:
        """The gateway's MAC, the last known one where the kernel does not know it now.

        Of another network whose gateway has the same address, it is the last one's at first.
        """
        if gateway != self._gateway:
            self._gateway, self._mac = gateway, ""
        self._mac = _mac(gateway, _rows(self._proc / "arp")) or self._mac
        return self._mac


@cache
def _whereabouts(proc: Path) -> _Whereabouts:
    return _Whereabouts(proc)


def _rows(path: Path) -> Rows:
    try:
        return [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return []


def _ipv4_gateway(routes: Rows) -> _Gateway | None:
    """The gateway of the default route that the kernel takes; None when it has none, as in tunnels.

    A route to half of the Internet counts, too: VPNs add two of them. The narrower route wins, then
    the lower metric. Columns: 0 interface, 1 destination, 2 gateway, 6 metric, 7 mask.
    """
    found = [
        (-int(row[7], 16).bit_count(), int(row[6]), row[2], row[0])
        for row in routes[1:]
        if len(row) >= ROUTE_COLUMNS and row[1] == DEFAULT_ROUTE
    ]
    if not found:
        return None
    _, _, gateway, interface = min(found)
    if gateway == DEFAULT_ROUTE:
        return None
    return _Gateway(socket.inet_ntoa(struct.pack("=I", int(gateway, 16))), interface)


def _mac(gateway: _Gateway, neighbours: Rows) -> str:
    """Columns: 0 address, 2 flags, 3 MAC, 5 interface."""
    for row in neighbours[1:]:
        if len(row) >= ARP_COLUMNS and _Gateway(row[0], row[5]) == gateway:
            return row[3] if int(row[2], 16) & RESOLVED else ""
    return ""


def _ipv6_gateway(routes: Rows) -> str:
    """Columns: 0 destination, 1 prefix length, 4 next hop, 5 metric, 9 interface."""
    found = [
        (int(row[5], 16), f"{row[4]} {row[9]}")
        for row in routes
        if len(row) >= ROUTE6_COLUMNS and row[0] == DEFAULT_ROUTE6 and row[1] == "00"
        if row[4] != DEFAULT_ROUTE6
    ]
    return min(found)[1] if found else ""


def _by_local_address() -> bytes:
    for family, address in PROBES:
        prefix = IPV4_PREFIX if family == socket.AF_INET else IPV6_PREFIX
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((address, 9))
                local = probe.getsockname()[0]
        except OSError:
            continue
        return str(ipaddress.ip_network(f"{local}/{prefix}", strict=False)).encode()
    return NOWHERE
