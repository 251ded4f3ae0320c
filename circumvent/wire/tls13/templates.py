"""What each browser says in its ClientHello: data, so that a bundle may bring newer ones.

The templates themselves: ``captured`` and ``browsers``.
"""

from __future__ import annotations

from dataclasses import dataclass

GREASE = 0x0A0A  # RFC 8701: stands for a value that is drawn anew for each connection


@dataclass(frozen=True, slots=True)
class EchGrease:
    """The form of an ECH extension that nobody can open (RFC 9849 §6.2).

    ``aeads`` and ``payloads`` (in bytes, with the tag) are what one is drawn from.
    """

    aeads: tuple[int, ...]
    payloads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A browser's ClientHello.

    All lists are in the order in which they are sent; GREASE stands where a value is drawn.
    ``extensions`` are numbers, ``fixed`` has the bodies of those that never change. ``permuted``:
    extensions come in a new order each time, but for GREASE at both ends. ``alps``: protocols
    for which settings are exchanged. ``compressions``: of certificates (RFC 8879 §7.3).
    ``same_x25519``: the hybrid share and the plain one have the same key. ``not_with_ticket``:
    extensions that are left out where a ticket is offered.
    """

    name: str
    ciphers: tuple[int, ...]
    extensions: tuple[int, ...]
    groups: tuple[int, ...]
    shares: tuple[int, ...]
    signatures: tuple[int, ...]
    versions: tuple[int, ...]
    fixed: tuple[tuple[int, bytes], ...]
    compressions: tuple[int, ...] = ()
    alpn: tuple[str, ...] = ("h2", "http/1.1")
    alps: tuple[str, ...] = ()
    ech_grease: EchGrease | None = None
    permuted: bool = False
    same_x25519: bool = False
    not_with_ticket: tuple[int, ...] = ()
