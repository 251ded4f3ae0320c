"""Channels: what fetches bundles of server entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from circumvent.api.cost import Cost
from circumvent.api.dialer import Dialer
from circumvent.memory import Account


@dataclass(slots=True)
class Fetch:
    """One attempt at one source.

    ``source`` is a URL. ``notes`` are small, and kept for this source until the next
    attempt: an ETag, for example.
    """

    source: str
    dialer: Dialer
    account: Account
    notes: dict[str, str] = field(default_factory=dict)


class Channel(ABC):
    """A way to fetch a bundle of server entries.

    ``schemes`` are those of the sources that it reads. ``cost.dial`` is what one fetch holds
    outside the arena, at most. ``tier``: 0 is cheap and quiet and is tried first, 2 is costly or
    easily noticed. ``watch``: seconds after which its sources are looked at again even though
    nothing is missing, because that is cheap and cannot be observed; 0 for never.
    """

    name: str
    schemes: tuple[str, ...]
    cost: Cost
    tier: int = 1
    watch: float = 0.0

    @abstractmethod
    def check(self, source: str) -> None:
        """Raise LinkError when ``source`` cannot be used, saying what is wrong with it."""

    @abstractmethod
    def fetch(self, fetch: Fetch) -> AsyncGenerator[bytes, None]:
        """The bundles of the source, the most likely first.

        None of them is trusted: the caller tries one after the other, stops at the first that
        verifies and closes the iterator. Of a subscription, which nobody signs, they are the pieces
        of one list, in order. Raises ChannelError.
        """
