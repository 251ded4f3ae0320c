"""The nameservers that a relay asks: those of its configuration, or the system's."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from circumvent.errors import ConfigError, LinkError
from circumvent.wire.address import Destination
from circumvent.wire.host_port import parse_address

DNS_PORT = 53


def parse_nameservers(texts: Sequence[str]) -> tuple[Destination, ...]:
    """Parse ``ADDRESS`` or ``ADDRESS:PORT``; without any, use the system's nameservers.

    Raises ConfigError.
    """
    return tuple(map(_parse_nameserver, texts)) or _system_nameservers()


def _parse_nameserver(text: str) -> Destination:
    try:
        return Destination(str(ipaddress.ip_address(text)), DNS_PORT)
    except ValueError:
        pass
    try:
        host, port = parse_address(text)
        return Destination(str(ipaddress.ip_address(host)), port)
    except (LinkError, ValueError):
        raise ConfigError(
            f"egress.nameservers: {text!r} is not an IP address with or without a port",
            stage="config",
        ) from None


def _system_nameservers(file: Path = Path("/etc/resolv.conf")) -> tuple[Destination, ...]:
    """The nameservers of resolv.conf(5), which falls back to this machine too."""
    try:
        lines = [line.split() for line in file.read_text(errors="replace").splitlines()]
    except OSError:
        lines = []
    named = [line[1] for line in lines if line[:1] == ["nameserver"] and len(line) > 1]
    return tuple(Destination(address, DNS_PORT) for address in named or ["127.0.0.1"])
