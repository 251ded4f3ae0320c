"""What a probe says of its tunnel, fact by fact."""

import pytest

from circumvent.errors import DialError, ProbeError, ProtocolError, StreamResetError
from circumvent.tunnels.verdict import (
    MAX_MISSES,
    ProbeFacts,
    ProbeVerdict,
    is_page_gone,
    judge,
)


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (ProbeFacts(passed=True), ProbeVerdict.WELL),
        (ProbeFacts(passed=True, is_own_trouble=True, is_silent=True), ProbeVerdict.WELL),
        (ProbeFacts(passed=False), ProbeVerdict.DEAD),
        (ProbeFacts(passed=False, is_resuming=True), ProbeVerdict.RESUMING),
        (ProbeFacts(passed=False, is_own_trouble=True), ProbeVerdict.UNDECIDED),
        (ProbeFacts(passed=False, is_own_trouble=True, is_long=True), ProbeVerdict.UNDECIDED),
        (ProbeFacts(passed=False, is_server_alive=True), ProbeVerdict.MISSED),
        (
            ProbeFacts(passed=False, is_server_alive=True, misses=MAX_MISSES),
            ProbeVerdict.DEAD,
        ),
        (ProbeFacts(passed=False, is_page_gone=True), ProbeVerdict.DEAD),
        (ProbeFacts(passed=False, is_last_resort=True), ProbeVerdict.DEAD),
        (ProbeFacts(passed=True, is_last_resort=True, is_in_vain=True), ProbeVerdict.WELL),
        (
            ProbeFacts(passed=False, is_last_resort=True, is_page_gone=True),
            ProbeVerdict.PAGE_GONE,
        ),
        (
            ProbeFacts(passed=False, is_last_resort=True, is_page_gone=True, is_in_vain=True),
            ProbeVerdict.USELESS,
        ),
        (
            ProbeFacts(
                passed=False,
                is_last_resort=True,
                is_page_gone=True,
                is_in_vain=True,
                is_own_trouble=True,
            ),
            ProbeVerdict.PAGE_GONE,
        ),
        (ProbeFacts(passed=False, is_silent=True), ProbeVerdict.ALL_SILENT),
        (ProbeFacts(passed=False, is_silent=True, is_alone=True), ProbeVerdict.DEAD),
        (ProbeFacts(passed=False, is_silent=True, is_long=True), ProbeVerdict.DEAD),
    ],
)
def test_the_verdict_follows_from_the_facts(facts: ProbeFacts, verdict: ProbeVerdict) -> None:
    assert judge(facts) is verdict


@pytest.mark.parametrize(
    ("failure", "noted"),
    [
        (TimeoutError(), "opened answered"),
        (ProbeError("the tunnel was closed", stage="probe"), "opened answered"),
        (StreamResetError("cut", stage="read"), "opened answered"),
        (ProbeError("it cannot be reached", stage="destination"), "opened"),
        (ProbeError("somebody else answered", stage="answer"), "opened"),
    ],
)
def test_a_server_that_proved_itself_may_blame_the_page(failure: Exception, noted: str) -> None:
    assert is_page_gone(failure, opened="opened" in noted, answered="answered" in noted)


@pytest.mark.parametrize(
    ("failure", "noted"),
    [
        (TimeoutError(), "answered"),
        (TimeoutError(), "opened"),
        (StreamResetError("cut", stage="read"), "opened"),
        (ProtocolError("no answer of its protocol", stage="read"), "opened answered"),
        (DialError("refused", stage="tcp"), "opened answered"),
        (ProbeError("somebody else answered", stage="answer"), "opened answered"),
    ],
)
def test_another_one_may_not(failure: Exception, noted: str) -> None:
    assert not is_page_gone(failure, opened="opened" in noted, answered="answered" in noted)
