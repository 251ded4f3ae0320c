"""What a running relay tells about itself, for ``relay status`` and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from circumvent.relay.metrics import Metric
from circumvent.status.snapshot import MemoryStatus


@dataclass(frozen=True, slots=True)
class UserStatus:
    """One user. Bytes are counted since the relay started; ``up`` is towards destinations."""

    name: str
    sessions: int
    carriers: int
    streams: int
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """``visits`` are all connections so far, ``knocks`` those of them that knocked.

    ``state`` is "up" or "draining"; ``refused`` counts failed streams by reason.
    """

    listen: str
    state: str
    visitors: int
    visits: int
    knocks: int
    bytes_up: int
    bytes_down: int
    refused: dict[str, int]
    memory: MemoryStatus
    users: tuple[UserStatus, ...]
    warnings: tuple[str, ...] = ()


def metrics(status: RelayStatus) -> Iterator[Metric]:
    """The status as metrics; users are added up, and none is named."""
    users = status.users
    total = {
        field: float(sum(getattr(user, field) for user in users))
        for field in ("sessions", "carriers", "streams")
    }
    yield _gauge("visitors", "Connections at the cover site.", status.visitors)
    yield _gauge("sessions", "Sessions.", total["sessions"])
    yield _gauge("carriers", "Carriers of sessions.", total["carriers"])
    yield _gauge("streams", "Streams to destinations.", total["streams"])
    yield Metric("visits_total", "counter", "Connections so far.", {"": status.visits})
    yield Metric("knocks_total", "counter", "Right knocks so far.", {"": status.knocks})
    up, down = '{direction="up"}', '{direction="down"}'
    directions: dict[str, float] = {up: status.bytes_up, down: status.bytes_down}
    yield Metric("bytes_total", "counter", "Bytes to and from destinations.", directions)
    refused = {f'{{reason="{reason}"}}': float(n) for reason, n in status.refused.items()}
    yield Metric(
        "refused_total", "counter", "Streams whose destination was not reached, by reason.", refused
    )
    memory = status.memory
    used = {'{use="leased"}': memory.leased, '{use="charged"}': memory.charged}
    yield Metric("memory_bytes", "gauge", "Memory in use, of the budget.", dict(used))
    yield _gauge("memory_budget_bytes", "The memory budget.", memory.budget)
    yield _gauge("draining", "Whether the relay is draining.", status.state == "draining")


def _gauge(name: str, text: str, value: float) -> Metric:
    return Metric(name, "gauge", text, {"": float(value)})
