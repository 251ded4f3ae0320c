"""What failed is tried again as often as a censor may count, and no less often."""

from __future__ import annotations

from itertools import pairwise

import pytest

from circumvent.tunnels.backoff import MOST_KEYS, Backoff
from circumvent.tunnels.timings import BackoffTimings

TIMINGS = BackoffTimings()
STEP = 0.05  # seconds
MINUTE = 60.0


def tries(seconds: float, *, asking: bool = False, backoff: Backoff | None = None) -> list[float]:
    """When somebody who always fails is tried, from second 100 on."""
    backoff = backoff or Backoff()
    made = []
    for step in range(round(seconds / STEP)):
        now = 100.0 + step * STEP
        if asking:
            backoff.ask(now)
        if backoff.ready_at("it") <= now:
            backoff.failed("it", now)
            made.append(now - 100.0)
    return made


@pytest.mark.parametrize("asking", [False, True], ids=["unasked", "asked"])
def test_six_tries_in_the_first_minute_then_one(asking: bool) -> None:  # noqa: FBT001
    made = tries(20 * MINUTE, asking=asking)
    assert len([at for at in made if at < MINUTE]) == 5 + asking
    later = [at for at in made if at >= MINUTE]
    assert len(later) <= 19 * MINUTE / 54 + (4 if asking else 1)
    assert max(then - at for at, then in pairwise(made)) <= MINUTE
    assert min(then - at for at, then in pairwise(made)) >= 0.4


def test_who_could_not_be_tried_is_tried_soon_again_and_counts_as_before() -> None:
    backoff = Backoff()
    now = 100.0
    for _ in range(20):
        backoff.failed("it", now, is_own_trouble=True)
        assert backoff.ready_at("it") < now + 9
        now = backoff.ready_at("it")
    backoff.failed("it", now)
    assert backoff.ready_at("it") < now + 9
    backoff.failed("it", now)
    assert backoff.ready_at("it") > now + 50


def test_who_waits_is_served_soon_but_not_again_and_again() -> None:
    backoff = Backoff()
    last = 100.0 + tries(10 * MINUTE, backoff=backoff)[-1]
    assert backoff.ready_at("it") > last + 50
    backoff.ask(last + 1)
    assert backoff.ready_at("it") == last + TIMINGS.early_after
    backoff.failed("it", last + TIMINGS.early_after)
    backoff.ask(last + 20)
    assert backoff.ready_at("it") > last + 50


def test_who_asked_just_before_a_failure_still_waits() -> None:
    backoff = Backoff()
    tries(10 * MINUTE, backoff=backoff)
    backoff.ask(999.0)
    backoff.failed("it", 1000.0)
    assert backoff.ready_at("it") == 1000.0 + TIMINGS.early_after


def test_one_may_be_asked_for_alone() -> None:
    backoff = Backoff()
    for key in ("it", "another"):
        tries(10 * MINUTE, backoff=backoff)
        backoff.hold(key, 700.0, 800.0)
    backoff.ask(701.0, "it")
    assert backoff.ready_at("it") == 700.0 + TIMINGS.early_after
    assert backoff.ready_at("another") == 800.0


def test_whoever_worked_is_tried_at_once() -> None:
    backoff = Backoff()
    tries(MINUTE, backoff=backoff)
    backoff.worked("it")
    assert backoff.ready_at("it") == 0.0


def test_what_failed_after_it_worked_counts() -> None:
    backoff = Backoff()
    backoff.failed("it", 100.0)
    backoff.worked("it", 99.0)
    assert backoff.ready_at("it") > 100.0
    backoff.worked("it", 101.0)
    assert backoff.ready_at("it") == 0.0


def test_what_failed_long_ago_was_not_in_a_row() -> None:
    backoff = Backoff()
    tries(MINUTE, backoff=backoff)
    now = backoff.ready_at("it") + TIMINGS.forgotten_after + 1
    backoff.failed("it", now)
    assert backoff.ready_at("it") < now + 1


def test_who_was_not_even_tried_has_not_failed_once_more() -> None:
    backoff = Backoff()
    backoff.failed("it", 100.0)
    backoff.hold("it", 101.0, 130.0)
    assert backoff.ready_at("it") == 130.0
    backoff.ask(102.0)
    assert backoff.ready_at("it") == 101.0 + TIMINGS.early_after
    backoff.failed("it", 130.0)
    assert backoff.ready_at("it") < 131.0


def test_one_failure_says_nothing_of_others() -> None:
    backoff = Backoff()
    backoff.failed("it", 100.0)
    assert backoff.ready_at("another") == 0.0


def test_failures_in_a_row_are_counted_until_it_works() -> None:
    backoff = Backoff()
    for now in (100.0, 101.0):
        backoff.failed("it", now)
    assert (backoff.failures("it"), backoff.failures("another")) == (2, 0)
    backoff.worked("it")
    assert backoff.failures("it") == 0


def test_of_the_servers_of_a_long_list_the_failures_longest_ago_are_forgotten() -> None:
    backoff = Backoff()
    for number in range(MOST_KEYS + 10):
        backoff.failed(number, float(number))
    assert [backoff.failures(number) for number in (9, 10, MOST_KEYS + 9)] == [0, 1, 1]
