"""Which connection is closed when a new one comes and there is no room left.

A new connection is never refused. A connection that has not been served yet leaves in the order of
arrival: so in a crowd each connection has the time that it takes to fill half of the room. A
network (/24, /48) whose unserved connections fill an eighth of the room replaces its own
connections, and those of other networks are safe from it. A web server in front of the relay is one
network for all its visitors. There only the order of arrival decides, so the eighth is no limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

NEWCOMERS = 2  # one part in so many of the room is kept for connections that were not served yet
SHARE = 8  # one part in so many of the room that one network's newcomers may take from others


class Evictable(Protocol):
    """A connection that can be closed to make room for another."""

    @property
    def network(self) -> str:
        """The network that it comes from."""

    @property
    def served_at(self) -> float:
        """When it was served last, in seconds of any clock; 0 if it never was."""


T = TypeVar("T", bound=Evictable)


def choose_evicted(present: Iterable[T], network: str, room: int) -> T:
    """The connection that makes room for a new one from ``network``.

    ``present`` is in the order of arrival and not empty.
    """
    served: list[T] = []
    newcomers: list[T] = []
    for each in present:
        (served if each.served_at else newcomers).append(each)
    if served and len(newcomers) < max(room // NEWCOMERS, 1):
        return min(served, key=lambda each: each.served_at)
    own = [each for each in newcomers if each.network == network]
    return own[0] if len(own) >= max(room // SHARE, 1) else newcomers[0]
