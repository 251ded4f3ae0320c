"""Sources of the DNS channel: ``dns:ZONE?resolver=URL&resolver=URL``.

A resolver is ``udp://IP``, ``tcp://IP``, ``tls://IP`` (RFC 7858) or ``https://HOST/PATH``
(RFC 8484), each with ``:PORT`` if it is another. ``#NAME`` behind an address is the name in the
certificate where that does not hold the address itself; inside a source, ``#`` is written ``%23``.
``resolver=system`` means the resolvers of this machine: when a country is cut off, those of its
providers are often all that still reaches the world.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from circumvent.api import LinkError
from circumvent.wire.address import MAX_PORT
from circumvent.wire.host_port import parse_host
from circumvent.wire.link_text import check_text

SCHEME = "dns:"
MAX_RESOLVERS = 8
MAX_SECURE = 4  # of them: each is a TLS connection, and for DoH an HTTP session
MAX_ZONE = 200  # characters; a chunk's label and the dots still fit the 253 of a name
DOH_PATH = "/dns-query"
SYSTEM = "system"
SYSTEM_PORT = 53
SYSTEM_FILE = Path("/etc/resolv.conf")
MAX_SYSTEM = 2  # of its name servers


class DnsTransport(enum.Enum):
    """How a resolver is asked; the value is its scheme."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"
    HTTPS = "https"


_PORTS = {
    DnsTransport.UDP: 53,
    DnsTransport.TCP: 53,
    DnsTransport.TLS: 853,
    DnsTransport.HTTPS: 443,
}


@dataclass(frozen=True, slots=True)
class DnsResolver:
    """A server that answers DNS questions; ``name`` is the one in its certificate.

    ``is_near``: known to this network only, so never asked through tunnels.
    """

    way: DnsTransport
    host: str
    port: int
    name: str = ""
    path: str = ""
    is_near: bool = False

    @property
    def is_secure(self) -> bool:
        """Whether the path can neither read nor forge its answers."""
        return self.way in {DnsTransport.TLS, DnsTransport.HTTPS}


@dataclass(frozen=True, slots=True)
class DnsSource:
    """A zone and its resolvers; ``asks_system``: those of this machine are asked, too."""

    zone: str
    resolvers: tuple[DnsResolver, ...]
    asks_system: bool = False

    def with_system(self) -> DnsSource:
        """The source with the name servers of this machine among the resolvers; reads a file."""
        return replace(self, resolvers=self.resolvers + system_resolvers())


def parse_source(text: str) -> DnsSource:
    """Read a source; raises LinkError."""
    zone, question, query = check_text(text)[len(SCHEME) :].partition("?")
    zone = parse_host(zone.removesuffix("."))
    if _is_address(zone) or len(zone) > MAX_ZONE:
        raise LinkError("dns: names no zone; write dns:ZONE, the name under which records are")
    urls = _parse_query(query) if question else DEFAULT_RESOLVERS
    resolvers = tuple(dict.fromkeys(parse_resolver(url) for url in urls if url != SYSTEM))
    if len(resolvers) > MAX_RESOLVERS or sum(map(_is_secure, resolvers)) > MAX_SECURE:
        raise LinkError(f"resolver: more than {MAX_RESOLVERS}, or than {MAX_SECURE} with TLS")
    return DnsSource(zone, resolvers, SYSTEM in urls)


def parse_resolver(url: str) -> DnsResolver:
    """Read a resolver's URL; raises LinkError."""
    try:
        parts = urlsplit(url)
        way = DnsTransport(parts.scheme)
        port = _PORTS[way] if parts.port is None else parts.port
    except ValueError:
        raise LinkError("resolver: is udp://, tcp://, tls:// or https:// and a host") from None
    host = parse_host((parts.hostname or "").strip("[]"))
    _check(parts, way, host, port)
    name = parse_host(parts.fragment) if parts.fragment else ""
    return DnsResolver(way, host, port, name, _path(parts) if way is DnsTransport.HTTPS else "")


def system_resolvers() -> tuple[DnsResolver, ...]:
    """The name servers of this machine (resolv.conf(5)); none when it does not say."""
    try:
        lines = SYSTEM_FILE.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    words = [line.split() for line in lines]
    found = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
    addresses = list(filter(_is_address, found))[:MAX_SYSTEM]
    return tuple(
        DnsResolver(DnsTransport.UDP, host, SYSTEM_PORT, is_near=True) for host in addresses
    )


def _check(parts: SplitResult, way: DnsTransport, host: str, port: int) -> None:
    if way is not DnsTransport.HTTPS and not _is_address(host):
        raise LinkError("resolver: needs an IP address, for names are what is forged")
    if not 0 < port <= MAX_PORT or parts.username or parts.password:
        raise LinkError("resolver: is only a scheme, an address and a port; correct it")
    if way is not DnsTransport.HTTPS and (parts.path or parts.query):
        raise LinkError("resolver: only https:// has a path; remove it")
    if parts.fragment and way in {DnsTransport.UDP, DnsTransport.TCP}:
        raise LinkError("resolver: a name means nothing without TLS; remove what follows '#'")


def _path(parts: SplitResult) -> str:
    path = parts.path or DOH_PATH
    return f"{path}?{parts.query}" if parts.query else path


def _parse_query(query: str) -> tuple[str, ...]:
    items = [item.partition("=") for item in query.split("&")]
    if any(key != "resolver" or not value for key, _, value in items):
        raise LinkError("dns: only 'resolver=URL' may follow the zone, with '&' between")
    return tuple(unquote(value) for _, _, value in items)


def _is_secure(resolver: DnsResolver) -> bool:
    return resolver.is_secure


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# Certificates of these hold their addresses, so no name has to be looked up or sent.
DEFAULT_RESOLVERS = (
    "https://8.8.8.8/dns-query",
    "https://1.1.1.1/dns-query",
    "tls://9.9.9.9",
    "tls://8.8.4.4",
    "udp://8.8.8.8",
    "udp://9.9.9.9",
    "tcp://1.1.1.1",
    SYSTEM,
)
