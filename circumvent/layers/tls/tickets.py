"""TLS tickets: each is offered once, and only where it came from.

A ticket is sent in clear, so one that is offered twice shows that it is the same client (RFC 8446
§C.4); browsers use each once, too. And the server chooses its bytes: offered to another address,
they would be a message to whoever listens there.
"""

from __future__ import annotations

import ssl
import time
from typing import NamedTuple

from circumvent.api import TlsOptions

EACH = 4  # of one server: so many connections that begin together can resume
MOST = 16  # of all servers with which the same terms are used; up to 14 KiB each, measured


class TicketScope(NamedTuple):
    """Who gave a ticket: ``place`` is address and port, empty inside of another stream."""

    place: str
    options: TlsOptions


class Tickets:
    """The last tickets of each server."""

    def __init__(self) -> None:
        self._kept: list[tuple[TicketScope, ssl.SSLSession]] = []  # the newest is the last

    def take(self, origin: TicketScope) -> ssl.SSLSession | None:
        """The newest, which is never given out again."""
        mine = self._of(origin)
        return self._kept.pop(mine[-1])[1] if mine else None

    def keep(
        self,
        origin: TicketScope,
        tls: ssl.SSLSocket | ssl.SSLObject,
        offered: ssl.SSLSession | None,
    ) -> None:
        """Keep what came on ``tls``, where ``offered`` was used, if it is worth the work.

        The standard library copies a session whenever it is read, which takes a third as long as
        a whole handshake.
        """
        mine = self._of(origin)
        if len(mine) == EACH and _is_young(self._kept[mine[0]][1]):
            return
        session = tls.session
        if session is None or not session.has_ticket:
            return
        known = [offered, *(self._kept[at][1] for at in mine)]
        if any(each is not None and each.id == session.id for each in known):  # no other one came
            return
        if len(mine) == EACH:
            del self._kept[mine[0]]
        self._kept.append((origin, session))
        del self._kept[:-MOST]

    def _of(self, origin: TicketScope) -> list[int]:
        return [at for at, (known, _) in enumerate(self._kept) if known == origin]


def _is_young(session: ssl.SSLSession) -> bool:
    return time.time() < session.time + session.timeout / 2
