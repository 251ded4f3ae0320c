"""Which addresses may be connected to, depending on who named them (docs/decisions/0015).

A link, list or invite from others must not lead to services of this machine and its networks,
neither by an address nor by a name whose owner answers with such an address.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from circumvent.net.addresses import is_ours, is_public, plain

SYSTEM_FILE = Path("/etc/resolv.conf")
DNS_PORT = 53
LOCALHOST = frozenset(("127.0.0.1", "::1"))

# Whether ``host``, as it was named, may be reached at one of its addresses and a port.
Guard = Callable[[str, str, int], bool]


def anything(host: str, address: str, port: int) -> bool:  # noqa: ARG001 - as every guard
    """Allow every address; for labs."""
    return True


def as_typed(host: str, address: str, port: int) -> bool:
    """The user named it: an address is allowed as typed, what a name resolves to only if public.

    The exception is localhost, which nobody else can own (RFC 6761 §6.3).
    """
    is_meant = host == address or (host == "localhost" and address in LOCALHOST)
    return is_meant or as_learnt("", host, address, port)


def as_learnt(typed: str, host: str, address: str, port: int) -> bool:  # noqa: ARG001 - as above
    """Somebody else named it: a public address is allowed, or the one that the user ``typed``.

    The name servers of this machine may be asked for names, too.
    """
    if address == typed:
        return True
    try:
        address = plain(address)
    except ValueError:
        return False
    if is_public(address) and not is_ours(address):
        return True
    return port == DNS_PORT and address in _name_servers()


def learnt(typed: str = "") -> Guard:
    """The guard for servers that somebody else named."""
    return partial(as_learnt, typed)


def _name_servers() -> set[str]:
    """The name servers of this machine (resolv.conf(5))."""
    try:
        lines = SYSTEM_FILE.read_text(errors="replace").splitlines()
    except OSError:
        return set()
    rows = (line.split() for line in lines)
    return {row[1].partition("%")[0] for row in rows if len(row) > 1 and row[0] == "nameserver"}
