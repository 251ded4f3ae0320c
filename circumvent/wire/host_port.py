"""Hosts and ports as people write them: ``host:port``, ``[IPv6]:port``."""

from __future__ import annotations

import ipaddress
import re

from circumvent.errors import LinkError
from circumvent.wire.address import MAX_PORT, encode_name

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"0*[0-9]{1,5}")


def parse_address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Split ``host:port`` or ``[IPv6]:port``; raises LinkError.

    An IPv6 address may lack its brackets: its last group is then the port.
    """
    host, colon, port = text.strip().rpartition(":")
    if default_port and (not colon or "]" in port):
        return parse_host(text.strip()), default_port
    if not colon or host.startswith("[") != host.endswith("]"):
        raise LinkError("port: missing after the host; copy the whole link")
    return parse_host(host), _parse_port(port.strip())


def parse_host(text: str) -> str:
    """A host name in lower case and ASCII, or an IP address, from a link; raises LinkError."""
    text = text.strip().removeprefix("[").removesuffix("]")
    if ":" in text:
        return _parse_ipv6(text)
    if "%" in text:
        raise LinkError("host: must not be percent-encoded; write the name as it is")
    try:
        host = encode_name(text).decode().lower().removesuffix(".")  # a dot for the root
    except ValueError:
        raise _bad_host() from None
    if not all(map(_LABEL.fullmatch, host.split("."))):
        raise _bad_host()
    return _parse_ipv4(host) if host.rpartition(".")[2].isdigit() else host


def _parse_port(text: str) -> int:
    if not _PORT.fullmatch(text) or not 0 < int(text) <= MAX_PORT:
        raise LinkError(
            f"port: is not a number from 1 to {MAX_PORT}; correct what follows the host"
        )
    return int(text)


def _parse_ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise LinkError("host: is not an IPv6 address; correct what is in brackets") from None
    if address.scope_id:
        raise LinkError("host: an IPv6 zone has no meaning elsewhere; leave it out")
    return str(address)


def _parse_ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise LinkError("host: is not an IPv4 address; write four numbers up to 255") from None


def _bad_host() -> LinkError:
    return LinkError("host: is neither a host name nor an IP address; correct it")
