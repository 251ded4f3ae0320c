"""The client works inside 50 MB without swap, whatever its clients do."""

from pathlib import Path

import pytest

from tests.bench.contenders import OURS, Contender, circumvent_with, started, started_origin
from tests.bench.load import LoadError
from tests.e2e.asking import await_tunnels, status
from tests.e2e.crowd import read, read_beside_stallers
from tests.e2e.memory_group import memory_group
from tests.e2e.nodes import three_nodes

LIMIT = 50_000_000
READERS = 160
STALLERS = 40
GIB = 1 << 30
SLOWED = 2.0  # times, at most, by those who do not read
SMALL = circumvent_with("--memory", "1 MiB", module="tests.e2e.small_buffers")


def prove(contender: Contender, folder: Path, total: int) -> None:
    with (
        started_origin(folder) as origin,
        three_nodes(folder) as nodes,
        memory_group(LIMIT) as group,
        started(
            group.hold(contender), [node.endpoint for node in nodes], folder, origin
        ) as running,
    ):
        assert running.process.pid in group
        await_tunnels(running, len(nodes))
        try:
            before = read(running.through, READERS, total)
            beside = read_beside_stallers(running.through, READERS, STALLERS, total)
            after = read(running.through, READERS, total)
        except LoadError as error:
            error.add_note(str(group.facts()))
            raise
        memory, facts = status(running).memory, group.facts()
        print(f"alone:  {before}\nbeside: {beside}\nalone:  {after}")
        print(f"{facts}\n{memory}\n{socket_memory()}")
        assert running.process.exit_code is None
    assert facts.kills == 0
    assert memory.high_water <= memory.budget
    assert len(beside.durations) == READERS
    assert beside.typical <= SLOWED * max(before.typical, after.typical)
    assert beside.slowest <= SLOWED * max(before.slowest, after.slowest)


def socket_memory() -> str:
    lines = Path("/proc/net/sockstat").read_text().splitlines()
    return next(line for line in lines if line.startswith("TCP:")) + " pages, of all processes"


@pytest.mark.parametrize("contender", [OURS, SMALL], ids=["default", "small"])
def test_readers_go_on_beside_stallers_in_50_mb(contender: Contender, tmp_path: Path) -> None:
    prove(contender, tmp_path, GIB // 4)


@pytest.mark.prove
@pytest.mark.timeout(120)
@pytest.mark.parametrize("contender", [OURS, SMALL], ids=["default", "small"])
def test_a_gigabyte_is_read_beside_stallers_in_50_mb(contender: Contender, tmp_path: Path) -> None:
    prove(contender, tmp_path, GIB)
