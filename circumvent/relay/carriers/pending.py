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
from circumvent.relay.eviction import first_to_leave

MOST = 4  # part of the memory that they get
COST = TLS_COST.stream + INNER_TLS_COST.dial  # of each, at most


class PendingCarrier:
    """One connection, or one carrier that requests make; ``task`` is what is cut."""

    __slots__ = ("_lobby", "network", "task")

    served_at = 0.0  # whoever was given something is no caller any more

    def __init__(self, lobby: PendingCarriers, network: str) -> None:
        self._lobby = lobby
        self.network = network
        self.task = asyncio.current_task()

    def move_on(self) -> None:
        """It is known who this is, or it has left."""
        self._lobby.callers.pop(self, None)


class PendingCarriers:
    """``callers`` are in the order of their coming, ``room`` at most."""

    def __init__(self, memory: int) -> None:
        self.room = max(memory // MOST // COST, 1)
        self.callers: dict[PendingCarrier, None] = {}

    @contextmanager
    def waiting(self, network: str) -> Iterator[PendingCarrier]:
        """The current task's place while the context lasts; who has to leave for it is cut."""
        if len(self.callers) >= self.room:
            leaving = first_to_leave(self.callers, network, self.room)
            leaving.move_on()
            if leaving.task is not None:
                leaving.task.cancel()
        caller = PendingCarrier(self, network)
        self.callers[caller] = None
        try:
            yield caller
        finally:
            caller.move_on()
