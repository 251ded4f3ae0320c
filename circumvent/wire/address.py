"""Destinations and their SOCKS5 encoding (RFC 1928 §5), shared by several protocols."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

IPV4, NAME, IPV6 = 1, 3, 4
MAX_NAME = 255  # one length byte on the wire
MAX_PORT = 0xFFFF


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a stream shall lead: a name or an IP address (no brackets), and a TCP port."""

    host: str
    port: int

    @property
    def kind(self) -> int:
        """IPV4, NAME or IPV6."""
        return _kind(self.host)

    def encode_host(self) -> tuple[int, bytes]:
        """Kind and body of the host: 4 or 16 bytes, or a length byte and the name.

        Raises ValueError when the name does not fit the wire.
        """
        kind = self.kind
        if kind != NAME:
            return kind, ipaddress.ip_address(self.host).packed
        name = encode_name(self.host)
        return NAME, bytes((len(name),)) + name

    def encode(self) -> bytes:
        """``ATYP | address | port`` as in RFC 1928 §5."""
        kind, body = self.encode_host()
        return bytes((kind,)) + body + self.port.to_bytes(2)

    def __str__(self) -> str:
        """``host:port``, with brackets around IPv6."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def encode_name(name: str) -> bytes:
    """A host name as it goes on the wire; ValueError when empty, too long or not encodable."""
    raw = name.encode("ascii") if name.isascii() else name.encode("idna")
    if not 0 < len(raw) <= MAX_NAME:
        message = f"a host name has 1 to {MAX_NAME} bytes, not {len(raw)}"
        raise ValueError(message)
    return raw


def _kind(host: str) -> int:
    if ":" in host:
        return IPV6
    if host and host[-1].isdigit() and _is_ipv4(host):
        return IPV4
    return NAME


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
