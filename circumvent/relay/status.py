"""What a running relay tells about itself: ``relay status`` and Prometheus show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from circumvent.relay.metrics import Metric
from circumvent.status.snapshot import MemoryStatus


@dataclass(frozen=True, slots=True)
class UserStatus:
    """Bytes since the relay started, whatever became of the sessions; ``up`` is to destinations."""

    name: str
    sessions: int
    carriers: int
    streams: int
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """``visits`` is how many connections came so far, and ``knocks`` how many of them knocked."""

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
    """The same in numbers; users are added up, none is named."""
    users = status.users
    total = {
        field: float(sum(getattr(user, field) for user in users))
        for field in ("sessions", "carriers", "streams")
    }
    yield _gauge("visitors", "Connections at the cover site.", status.visitors)
    yield _gauge("sessions", "Sessions.", total["sessions"])
    yield _gauge("carriers", "Connections that carry sessions.", total["carriers"])
    yield _gauge("streams", "Streams to destinations.", total["streams"])
    yield Metric("visits_total", "counter", "Connections so far.", {"": status.visits})
    yield Metric("knocks_total", "counter", "Right knocks so far.", {"": status.knocks})
    up, down = '{direction="up"}', '{direction="down"}'
    directions: dict[str, float] = {up: status.bytes_up, down: status.bytes_down}
    yield Metric("bytes_total", "counter", "Bytes to and from destinations.", directions)
    refused = {f'{{reason="{reason}"}}': float(n) for reason, n in status.refused.items()}
    yield Metric("refused_total", "counter", "Streams that led nowhere, by reason.", refused)
    memory = status.memory
    used = {'{use="leased"}': memory.leased, '{use="charged"}': memory.charged}
    yield Metric("memory_bytes", "gauge", "Memory in use, of the budget.", dict(used))
    yield _gauge("memory_budget_bytes", "The memory budget.", memory.budget)
    yield _gauge("draining", "Whether the relay is about to stop.", status.state == "draining")


def _gauge(name: str, text: str, value: float) -> Metric:
    return Metric(name, "gauge", text, {"": float(value)})
