"""The part of a large list that takes part in the race.

A candidate takes 1.5 KB and time at each start of a race, a packed link 100 bytes. So a few hundred
candidates race, those first that ever worked, and others follow when all of them have failed.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection
from random import randrange

from circumvent.api import Privacy
from circumvent.wire.server_list import ServerList

WINDOW = 256  # candidates; as many as a bundle has at most


class Window:
    """Walks through the servers of a list that hide enough, in circles."""

    def __init__(self, servers: ServerList, floor: Privacy, worked: Collection[str]) -> None:
        self._servers = servers
        fit = [each for each in range(servers.count) if servers.class_at(each) >= floor]
        start = randrange(len(fit)) if fit else 0  # noqa: S311 - so that clients differ
        fit = fit[start:] + fit[:start]
        fit.sort(key=lambda position: servers.id_at(position) not in worked)
        self._order = array("L", fit)
        self._next = 0

    @property
    def is_all(self) -> bool:
        """Whether one look shows everything."""
        return len(self._order) <= WINDOW

    def turn(self) -> tuple[str, ...]:
        """The links that come next; after the last one, the first again."""
        order = self._order
        chosen = order[self._next : self._next + WINDOW]
        chosen += order[: max(0, min(WINDOW, len(order)) - len(chosen))]
        self._next = (self._next + WINDOW) % len(order) if not self.is_all else 0
        return tuple(self._servers.links(chosen))
