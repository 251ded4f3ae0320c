"""Carriers that have knocked and are not authenticated yet: a bounded number of them.

The knock key is in every invite, also in those of users who were removed, and it opens no session.
Whoever has only the knock key gets as far as a pending carrier. A pending carrier stays until
another one needs its place; who is evicted then is decided as at the cover site (``eviction``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from circumvent.layers.costs import INNER_TLS_COST, TLS_COST
from circumvent.relay.eviction import choose_evicted

MEMORY_SHARE = 4  # one part in so many of the memory budget is for pending carriers
COST = TLS_COST.stream + INNER_TLS_COST.dial  # bytes of each, at most


class PendingCarrier:
    """One place: of a connection, or of a carrier that is made of requests.

    ``task`` serves it, and is cancelled when it is evicted.
    """

    __slots__ = ("_table", "network", "task")

    served_at = 0.0  # a carrier that was served anything is no longer pending

    def __init__(self, table: PendingCarriers, network: str) -> None:
        self._table = table
        self.network = network
        self.task = asyncio.current_task()

    def release(self) -> None:
        """Give the place back: the carrier is authenticated, or closed."""
        self._table.carriers.pop(self, None)


class PendingCarriers:
    """At most ``room`` pending carriers; ``carriers`` are in the order of arrival."""

    def __init__(self, memory: int) -> None:
        self.room = max(memory // MEMORY_SHARE // COST, 1)
        self.carriers: dict[PendingCarrier, None] = {}

    @contextmanager
    def place(self, network: str) -> Iterator[PendingCarrier]:
        """Hold a place for the current task while the context lasts; may evict another one."""
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
