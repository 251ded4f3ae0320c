"""Every span of time that discovery goes by, in seconds, each with its reason."""

from __future__ import annotations

from msgspec import Struct

Span = tuple[float, float]


class HuntTimings(Struct, frozen=True):
    """When the next source starts, and how long each may take."""

    next_after: float = 0.5  # within a tier
    next_tier_after: float = 3.0
    slow_after: float = 6.0  # a source that takes longer does not count against the limit
    fetch: float = 20.0  # a slower source is as good as dead
    hunt: float = 60.0  # all sources: then the user is told what was tried


class DiscoveryTimings(Struct, frozen=True):
    """When sources are asked. Pairs are ranges; a value is drawn anew each time.

    So a watcher finds no clockwork.
    """

    refresh_share: Span = (0.4, 0.7)  # of a bundle's life
    refresh: Span = (3600.0, 24 * 3600.0)  # the least and the most until a refresh
    retry: Span = (10.0, 300.0)  # after a hunt without success, doubled each time: first and last
    retry_jitter: Span = (0.75, 1.25)  # a factor
    dark_after: float = 15.0  # without any tunnel: the known servers may be blocked by now
    look_every: float = 1.0  # how late a change of the tunnels is noticed
    hunt: HuntTimings = HuntTimings()
