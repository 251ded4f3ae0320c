"""Tickets of our own TLS 1.3: each is offered once, and only where it came from.

Why: see ``tickets``, which does the same for OpenSSL's sessions.
"""

from __future__ import annotations

from collections.abc import Iterable

from circumvent.layers.tls.tickets import EACH, TicketScope
from circumvent.wire.tls13.tickets import Ticket

MOST = 64  # of all servers; some 300 bytes each


class Tls13Tickets:
    """The last tickets of each server."""

    def __init__(self) -> None:
        self._kept: list[tuple[TicketScope, Ticket]] = []  # the newest is the last

    def take(self, scope: TicketScope, now: float) -> Ticket | None:
        """The newest, which is never given out again. ``now`` is in seconds."""
        self._kept = [(known, ticket) for known, ticket in self._kept if ticket.is_fresh(now)]
        for at in reversed(range(len(self._kept))):
            if self._kept[at][0] == scope:
                return self._kept.pop(at)[1]
        return None

    def keep(self, scope: TicketScope, tickets: Iterable[Ticket]) -> None:
        """Keep what a connection brought; the oldest of too many are forgotten."""
        self._kept += [(scope, ticket) for ticket in tickets]
        mine = [at for at, (known, _) in enumerate(self._kept) if known == scope]
        for at in reversed(mine[:-EACH]):
            del self._kept[at]
        del self._kept[:-MOST]
