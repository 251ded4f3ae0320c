"""Those who knocked and have not said yet who they are: as many as there is room for.

The key that knocks is in every invite, so also in those of users who are gone, and it opens no
session. Whoever has only that may come this far and no further, and stays until somebody needs the
place: then, as at the cover site, the oldest leaves, or the oldest of a network that has too many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from circumvent.layers.costs import INNER_TLS_COST, TLS_COST
from circumvent.relay.eviction import choose_evicted

MOST = 4  # part of the memory that they get
COST = TLS_COST.stream + INNER_TLS_COST.dial  # of each, at most


class PendingCarrier:
    """One connection, or one carrier that requests make; ``task`` is what is cut."""

    __slots__ = ("_table", "network", "task")

    served_at = 0.0  # whoever was given something is not pending any more

    def __init__(self, table: PendingCarriers, network: str) -> None:
        self._table = table
        self.network = network
        self.task = asyncio.current_task()

    def release(self) -> None:
        """It is known who this is, or it has left."""
        self._table.carriers.pop(self, None)


class PendingCarriers:
    """``carriers`` are in the order of their coming, ``room`` at most."""

    def __init__(self, memory: int) -> None:
        self.room = max(memory // MOST // COST, 1)
        self.carriers: dict[PendingCarrier, None] = {}

    @contextmanager
    def place(self, network: str) -> Iterator[PendingCarrier]:
        """The current task's place while the context lasts; who has to leave for it is cut."""
        if len(self.carriers) >= self.room:
            evicted = choose_evicted(self.carriers, network, self.room)
            evicted.release()
            if evicted.task is not None:
                evicted.task.cancel()
        place = PendingCarrier(self, network)
        self.carriers[place] = None
        try:
            yield place
        finally:
            place.release()
