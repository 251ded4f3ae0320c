"""Every stream's bytes arrive exactly once and in order, whatever happens to its carriers."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.bonding.chaos import Chaos

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
FAULTS = 10_000


def test_streams_outlive_their_carriers() -> None:
    run_state_machine_as_test(
        Chaos,
        settings=settings(stateful_step_count=40, derandomize=True, suppress_health_check=SLOW),
    )


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_streams_outlive_ten_thousand_faults() -> None:
    Chaos.faults = 0
    while Chaos.faults < FAULTS:
        run_state_machine_as_test(
            Chaos,
            settings=settings(
                max_examples=200,
                stateful_step_count=100,
                deadline=None,
                database=None,
                suppress_health_check=SLOW,
            ),
        )
    print(f"{Chaos.faults} faults, every byte arrived once and in order")
