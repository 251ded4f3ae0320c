"""The status of the running client, as the ``status`` command shows it."""

from __future__ import annotations

from dataclasses import dataclass

from circumvent.api import CarrierStatus


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """The budget, in bytes; ``charged`` is what libraries hold outside of the arena."""

    budget: int
    leased: int
    charged: int
    high_water: int
    arena: int
    arena_high_water: int


@dataclass(frozen=True, slots=True)
class TunnelStatus:
    """One tunnel: ``server`` is an entry's id, ``opened_at`` unix seconds.

    ``state`` is "up", "suspected", "dead" or the like; ``rtt_ms`` is None until measured.
    """

    transport: str
    server: str
    name: str
    state: str
    rtt_ms: float | None
    streams: int
    bytes_up: int
    bytes_down: int
    opened_at: float
    warnings: tuple[str, ...] = ()
    carriers: tuple[CarrierStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """The whole client: ``listen`` is the bound address, ``problems`` names broken plugins.

    ``warnings`` are those of no single tunnel.
    """

    listen: str
    network: str
    privacy: str
    memory: MemoryStatus
    tunnels: tuple[TunnelStatus, ...]
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
