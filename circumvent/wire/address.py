"""Destinations and their SOCKS5 encoding (RFC 1928 §5), shared by several protocols."""

from __future__ import annotations

import contextlib
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

    def encode_host(self) -> tuple[int, bytes]:
        """Kind (IPV4, NAME, IPV6) and body: 4 or 16 bytes, or a length byte and the name.

        Raises ValueError when the name does not fit the wire.
        """
        host = self.host
        if ":" in host or host[-1:].isdigit():  # RFC 1123 §2.1: no top-level name ends so
            with contextlib.suppress(ValueError):
                if ":" in host:
                    return IPV6, ipaddress.IPv6Address(host).packed
                return IPV4, ipaddress.IPv4Address(host).packed
        name = encode_name(host)
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
