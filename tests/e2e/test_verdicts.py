"""Health's verdicts over real servers and networks: none that is false, and the right ones soon."""

import pytest

from tests.e2e.false_verdicts import ROWS, Row, false_verdicts
from tests.e2e.field import COLUMNS
from tests.e2e.right_verdicts import FAULTS, right_verdicts
from tests.e2e.verdicts import TOGETHER

NEW_WITHIN = {  # seconds; each flow that a censor freezes takes its user's patience
    "the server is killed": 1.0,
    "the server is stopped": 3.0,
    "no packet passes": 3.0,
    "each flow freezes after 16 KiB": 25.0,
    "its way out is silent": 3.0,
}
QUICK = (
    "steady upload, answered at the end",
    "long polls on kept-alive connections",
    "an upload whose destination stalls",
    "probe pages that are silent for 8 s",
    "an uplink that the user's uploads fill",
    "no packet passes for 8 s",
)
QUICK_PACE = 0.55  # no shorter: what is silent must be silent for longer than a frozen path may be


def check(rows: list[Row], columns: list[str], count: int = 100, pace: float = 1.0) -> None:
    found = false_verdicts(rows, columns, count, pace)
    for verdicts in found.values():
        assert verdicts.streams
        assert not verdicts.failures, verdicts.reasons
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
def test_new_connections_leave_a_server_that_fails(fault: object) -> None:
    (chosen,) = [each for each in FAULTS if each is fault]
    for recovery in right_verdicts(chosen, list(COLUMNS), 3).values():
        assert recovery.works <= NEW_WITHIN[chosen.name], recovery
