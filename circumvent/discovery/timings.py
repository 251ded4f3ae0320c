"""Every span of time that discovery goes by, in seconds, each with its reason."""

from __future__ import annotations

import math

from msgspec import Struct

from circumvent.tunnels.timings import BackoffTimings, Span


class HuntTimings(Struct, frozen=True):
    """When the next source starts, and how long each may take."""

    next_after: float = 0.5  # within a tier
    next_tier_after: float = 3.0
    slow_after: float = 6.0  # a source that takes longer does not count against the limit
    fetch: float = 20.0  # a slower source is as good as dead
    fetch_list: float = 50.0  # of a subscription: large ones take long, and come in order
    hunt: float = 60.0  # all sources: then the user is told what was tried


class DiscoveryTimings(Struct, frozen=True):
    """When sources are asked. Pairs are ranges; a value is drawn anew each time.

    So a watcher finds no clockwork.
    """

    refresh_share: Span = (0.4, 0.7)  # of a bundle's life
    refresh: Span = (3600.0, 24 * 3600.0)  # the least and the most until a refresh
    jitter: Span = (0.75, 1.25)  # a factor of these two
    retry: BackoffTimings = BackoffTimings(  # after so many hunts in a row without success
        pauses=(10.0, 20.0, 40.0, 80.0, 160.0, 300.0),
        jitter=(0.75, 1.25),
        forgotten_after=math.inf,
    )
    # Without any tunnel the known servers may be blocked; later after each hunt in vain.
    dark_after: tuple[float, ...] = (15.0, 30.0, 60.0, 120.0, 240.0, 300.0)
    turn_every: float = 3.0  # how late other servers of a large list follow
    look_every: float = 1.0  # how late a change of the tunnels is noticed
    hunt: HuntTimings = HuntTimings()
