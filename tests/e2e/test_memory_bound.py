"""The client works within 50 MB without swap, whatever its users do."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.bench.contenders import OURS, Contender, circumvent_with, started, started_origin
from tests.bench.load import LoadError
from tests.e2e.asking import await_tunnels, status
from tests.e2e.crowd import read, read_beside_stallers
from tests.e2e.memory_group import memory_group
from tests.e2e.nodes import THREE_SERVICES
from tests.peers.certificates import make_certificate
from tests.peers.servers import ServerMaker, mihomo_server, sing_box_server
from tests.peers.services import (
    VLESS_REALITY,
    VLESS_REALITY_VISION,
    VLESS_WEBSOCKET_TLS,
    Endpoint,
    Service,
)

LIMIT = 50_000_000
READERS = 160
STALLERS = 40
GIB = 1 << 30
PAIRS = 3
SLOWED = 5.0  # times, at most, by those who do not read; who starves waits for ever


def with_a_small_arena(
    endpoints: Sequence[Endpoint], port: int, home: Path, probe_url: str
) -> list[str]:
    config = home / "small.toml"
    config.write_text('arena = "1 MiB"\n')
    client = circumvent_with("--config", str(config))
    return client.command(endpoints, port, home, probe_url)


Makers = Sequence[tuple[ServerMaker, Service]]
PLAIN_CARRIAGE: Makers = [(sing_box_server, service) for service in THREE_SERVICES]
REALITY_AND_WEBSOCKET: Makers = [
    (mihomo_server, VLESS_REALITY),
    (mihomo_server, VLESS_REALITY_VISION),
    (sing_box_server, VLESS_WEBSOCKET_TLS),
]
SMALL = Contender("circumvent", with_a_small_arena)


@contextmanager
def serving(makers: Makers, folder: Path) -> Iterator[list[Endpoint]]:
    certificate = make_certificate(folder)
    with ExitStack() as stack:
        yield [
            stack.enter_context(make(service, folder, certificate)).endpoint
            for make, service in makers
        ]


def prove(contender: Contender, makers: Makers, folder: Path, each_time: int) -> None:
    with (
        started_origin(folder) as origin,
        serving(makers, folder) as endpoints,
        memory_group(LIMIT) as group,
        started(group.hold(contender), endpoints, folder, origin) as running,
    ):
        assert running.process.pid in group
        await_tunnels(running, len(endpoints))
        alone, beside = [], []
        try:
            for _ in range(PAIRS):
                alone.append(read(running.through, READERS, each_time))
                beside.append(read_beside_stallers(running.through, READERS, STALLERS, each_time))
        except (LoadError, OSError) as error:
            error.add_note(f"{group.facts()}\n{status(running).memory}\n{running.process.log}")
            raise
        seen, facts = status(running), group.facts()
        memory, carried = seen.memory, [tunnel.bytes_down for tunnel in seen.tunnels]
        report = [*(f"alone:  {each}" for each in alone), *(f"beside: {each}" for each in beside)]
        print(*report, facts, memory, f"carried: {carried}", socket_memory(), sep="\n")
        assert running.process.exit_code is None
    assert facts.kills == 0
    assert memory.high_water <= memory.budget
    assert memory.arena_high_water <= memory.arena
    assert all(len(each.durations) == READERS for each in beside)
    # The machine may do something else meanwhile: a real slowing shows in every pair.
    assert slowing([each.typical for each in beside], [each.typical for each in alone]) <= SLOWED
    assert slowing([each.slowest for each in beside], [each.slowest for each in alone]) <= SLOWED


def slowing(beside: list[float], alone: list[float]) -> float:
    return min(one / other for one, other in zip(beside, alone, strict=True))


def socket_memory() -> str:
    lines = Path("/proc/net/sockstat").read_text().splitlines()
    return next(line for line in lines if line.startswith("TCP:")) + " pages, of all processes"


@pytest.mark.parametrize(
    "contender", [OURS, SMALL], ids=["default", "small arena and send buffers"]
)
def test_readers_go_on_beside_stallers_in_50_mb(contender: Contender, tmp_path: Path) -> None:
    prove(contender, PLAIN_CARRIAGE, tmp_path, GIB // 8)


@pytest.mark.prove
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "contender", [OURS, SMALL], ids=["default", "small arena and send buffers"]
)
@pytest.mark.parametrize(
    "makers",
    [PLAIN_CARRIAGE, REALITY_AND_WEBSOCKET],
    ids=["plain carriage", "reality and websocket"],
)
def test_a_gigabyte_is_read_beside_stallers_in_50_mb(
    contender: Contender, makers: Makers, tmp_path: Path
) -> None:
    prove(contender, makers, tmp_path, GIB // PAIRS)
