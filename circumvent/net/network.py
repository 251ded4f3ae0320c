"""Which network this machine is on, as bytes to hash: the gateway's address and its MAC.

Linux tells both in /proc; elsewhere the prefix of the local address has to do.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from pathlib import Path

UNKNOWN = b"unknown"
ROUTE_COLUMNS, ARP_COLUMNS, ROUTE6_COLUMNS = 11, 6, 10  # as in proc(5); shorter rows are skipped
DEFAULT_ROUTE = "00000000"
DEFAULT_ROUTE6 = "0" * 32
IPV4_PREFIX, IPV6_PREFIX = 24, 64  # the usual size of a home network
# Documentation addresses (RFC 5737, RFC 3849): connecting a datagram socket sends nothing.
PROBES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def current_network(proc: Path = Path("/proc/net")) -> bytes:
    """What tells this network from others; ``UNKNOWN`` when there is no way out."""
    return _by_gateway(proc) or _by_local_address() or UNKNOWN


def _by_gateway(proc: Path) -> bytes:
    gateway = _ipv4_gateway(_rows(proc / "route"))
    if gateway:
        return f"{gateway} {_mac(gateway, _rows(proc / 'arp'))}".encode()
    return _ipv6_gateway(_rows(proc / "ipv6_route")).encode()


def _rows(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return []


def _ipv4_gateway(routes: list[list[str]]) -> str:
    """The default route with the lowest metric: columns 1 destination, 2 gateway, 6 metric."""
    found = [
        (int(row[6]), row[2])
        for row in routes[1:]
        if len(row) >= ROUTE_COLUMNS and row[1] == DEFAULT_ROUTE and row[2] != DEFAULT_ROUTE
    ]
    return socket.inet_ntoa(struct.pack("=I", int(min(found)[1], 16))) if found else ""


def _mac(gateway: str, neighbours: list[list[str]]) -> str:
    found = (row[3] for row in neighbours if len(row) >= ARP_COLUMNS and row[0] == gateway)
    return next(found, "")


def _ipv6_gateway(routes: list[list[str]]) -> str:
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
    return b""
