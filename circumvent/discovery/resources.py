"""What discovery is given to work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from circumvent.api import Channel, Dialer, Privacy, Transport
from circumvent.discovery.timings import DiscoveryTimings
from circumvent.memory import Memory
from circumvent.net.clock import SYSTEM_CLOCK, Clock
from circumvent.state.store import Store

DEFAULTS = DiscoveryTimings()


@dataclass(frozen=True, slots=True)
class Dialers:
    """How to reach sources: directly, or through tunnels while ``is_up``.

    ``direct`` gives the dialer to public addresses and to one more host that the user typed.
    """

    direct: Callable[[str], Dialer]
    tunnels: Dialer
    is_up: Callable[[], bool]

    def choose(self, typed: str) -> Dialer:
        """Through the tunnels if there are any: then a watcher sees nothing of a hunt."""
        return self.tunnels if self.is_up() else self.direct(typed)


@dataclass(frozen=True, slots=True)
class DiscoveryResources:
    """What discovery needs.

    ``channels`` are keyed by the scheme of their sources, ``transports`` by link scheme. Of large
    lists only servers that hide as much as ``floor`` are offered.
    """

    channels: Mapping[str, Channel]
    transports: Mapping[str, Transport]
    dialers: Dialers
    memory: Memory
    store: Store
    clock: Clock = SYSTEM_CLOCK
    timings: DiscoveryTimings = DEFAULTS
    floor: Privacy = Privacy.DIRECT
