"""Who has to leave when there are more connections than room: never whoever comes is kept out.

Who has got nothing yet makes room in the order in which they came, so that in a crowd everybody has
as long as it takes to fill half of the room. A network (/24, /48) that fills an eighth of it makes
room for its own newcomers; the others' are safe from it. A web server in front of us is one network
that brings everybody: there the order alone decides, which is why a share is no limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

NEWCOMERS = 2  # part of the room that is theirs; who was served before gets the rest
SHARE = 8  # part of the room that one network's newcomers fill at others' expense


class Evictable(Protocol):
    """``served_at`` is when it got something last, 0 while it has not."""

    @property
    def network(self) -> str:
        """Where it comes from."""

    @property
    def served_at(self) -> float:
        """In seconds of any clock."""


T = TypeVar("T", bound=Evictable)


def choose_evicted(present: Iterable[T], network: str, room: int) -> T:
    """Whose place somebody from ``network`` takes; ``present`` are in the order of their coming."""
    served: list[T] = []
    newcomers: list[T] = []
    for each in present:
        (served if each.served_at else newcomers).append(each)
    if served and len(newcomers) < max(room // NEWCOMERS, 1):
        return min(served, key=lambda each: each.served_at)
    own = [each for each in newcomers if each.network == network]
    return own[0] if len(own) >= max(room // SHARE, 1) else newcomers[0]
