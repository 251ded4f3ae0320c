"""Health's verdicts over real servers and networks: none that is false, and the right ones soon."""

import pytest

from tests.e2e.false_verdicts import ROWS, Row, false_verdicts
from tests.e2e.field import COLUMNS, RELAY
from tests.e2e.right_verdicts import FAULTS, Fault, right_verdicts
from tests.e2e.verdicts import TOGETHER

NEW_WITHIN = 3.0  # seconds
FEW = 12  # of some 300 connections: each that a censor froze takes its path's ten seconds
QUICK = (
    "steady upload, answered at the end",
    "long polls on kept-alive connections",
    "an upload whose destination stalls",
    "probe pages that are silent for 8 s",
    "an uplink that the user's uploads fill",
    "no packet passes for 8 s",
)
QUICK_PACE = 0.55  # no shorter: what is silent must be silent for longer than a frozen path may be


# What is cut there is cut by a session's limits of memory and by its scheduling, not by a verdict.
LIMITED = {
    ("an upload whose destination stalls", RELAY),
    ("a half-closed upload", RELAY),
    ("an uplink that the user's uploads fill", RELAY),
    ("a downlink that the user's downloads fill", RELAY),
}


def check(rows: list[Row], columns: list[str], count: int = 100, pace: float = 1.0) -> None:
    found = false_verdicts(rows, columns, count, pace)
    for cell, verdicts in found.items():
        assert verdicts.streams
        assert cell in LIMITED or not verdicts.failures, verdicts.reasons
        assert not verdicts.lost, verdicts.reasons


def test_slow_but_healthy_use_is_left_alone() -> None:
    rows = [row for row in ROWS if row.name in QUICK]
    check(rows, ["shadowsocks"], count=30, pace=QUICK_PACE)


@pytest.mark.prove
@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, len(ROWS), TOGETHER))
def test_every_kind_of_slow_but_healthy_use_is_left_alone(first: int) -> None:
    check(list(ROWS[first : first + TOGETHER]), list(COLUMNS))


@pytest.mark.prove
@pytest.mark.timeout(200)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_new_connections_leave_a_server_that_fails(fault: Fault) -> None:
    for recovery in right_verdicts(fault, list(COLUMNS), 3).values():
        assert recovery.works <= NEW_WITHIN, recovery
        assert recovery.last <= NEW_WITHIN or recovery.failed <= FEW, recovery
