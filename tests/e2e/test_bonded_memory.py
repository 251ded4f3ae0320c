"""A whole client with one relay in 50 MB without swap, while its carriers are killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.contenders import started, started_origin
from tests.e2e.asking import status
from tests.e2e.bonded import bonded, client
from tests.e2e.crowd import read_beside_stallers
from tests.e2e.long_visit import breaking
from tests.e2e.memory_group import memory_group
from tests.e2e.test_bonded import await_carriers
from tests.peers.certificates import make_certificate

LIMIT = 50_000_000
READERS, STALLERS = 160, 40
GIB = 1 << 30


def prove(folder: Path, size: int) -> None:
    certificate = make_certificate(folder)
    with (
        started_origin(folder) as origin,
        bonded(folder, certificate) as relay,
        memory_group(LIMIT) as group,
        started(group.hold(client(relay.link, certificate)), [], folder, origin) as running,
    ):
        kinds = await_carriers(running)
        with breaking(lambda: relay.connections) as broken:
            crowd = read_beside_stallers(running.through, READERS, STALLERS, size)
        memory, facts = status(running).memory, group.facts()
        print(f"\nover {', '.join(sorted(kinds))}, {len(broken)} of them broken: {crowd}")
        print(facts, memory, sep="\n")
        assert running.process.exit_code is None
    assert facts.kills == 0
    assert memory.high_water <= memory.budget
    assert memory.arena_high_water <= memory.arena
    assert len(crowd.durations) == READERS
    assert broken


@pytest.mark.timeout(120)
def test_200_streams_of_one_session_in_50_mb(tmp_path: Path) -> None:
    prove(tmp_path, GIB // 4)


@pytest.mark.prove
@pytest.mark.timeout(180)
def test_a_gigabyte_over_one_session_in_50_mb(tmp_path: Path) -> None:
    prove(tmp_path, GIB)
