"""Which IP addresses belong to the public Internet, and which to this machine."""

from __future__ import annotations

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

_DISCARD_PORT = 9  # nothing is sent: connecting a datagram socket only picks our own address

# The special networks of the IANA registries (RFC 6890 and later), and those where clouds answer.
# Python's own `is_global` changed between versions; this list does not.
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # this network; 0.0.0.0 connects to ourselves
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT; Alibaba's and Tailscale's services
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's platform services, at a public address
            "169.254.0.0/16",  # link-local: the metadata services of most clouds
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments; Oracle's metadata service
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
        ),
    )
)
_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC_IPV6 = tuple(
    map(
        ipaddress.ip_network,
        (
            "2001::/23",  # protocol assignments; Teredo, ORCHID
            "2001:db8::/32",
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)
# IPv6 networks that embed an IPv4 address, and by how many bits it is shifted: the IPv4 decides.
_EMBEDDED = (
    (ipaddress.ip_network("::ffff:0:0/96"), 0),  # mapped: the kernel connects by IPv4
    (ipaddress.ip_network("64:ff9b::/96"), 0),  # NAT64 (RFC 6052)
    (ipaddress.ip_network("2002::/16"), 80),  # 6to4 (RFC 3056)
)


def embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside of an IPv6 one."""
    for network, shift in _EMBEDDED:
        if address in network:
            return IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    return None


def is_address(text: str) -> bool:
    """Whether ``text`` is an IP address, and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public Internet; never raises."""
    try:
        return _is_public(ipaddress.ip_address(address))
    except ValueError:
        return False


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC)
    if address.scope_id is not None:
        return False
    inner = embedded(address)
    if inner is not None:
        return _is_public(inner)
    return address in _PUBLIC_IPV6 and not any(address in n for n in _NOT_PUBLIC_IPV6)


def plain(address: str) -> str:
    """An IP address in its usual spelling; an IPv4 address that is mapped into IPv6 as IPv4.

    Raises ValueError.
    """
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)


def is_ours(address: str) -> bool:
    """Whether this machine has that address itself: services there may trust the machine.

    An IPv4 address inside an IPv6 one counts, too.
    """
    inner = embedded(ipaddress.ip_address(address))
    return _is_local(address) or (inner is not None and _is_local(str(inner)))


def _is_local(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, _DISCARD_PORT))
            mine = probe.getsockname()[0].partition("%")[0]
            return ipaddress.ip_address(mine) == ipaddress.ip_address(address)
    except OSError:
        return False  # no route: connecting will report it
