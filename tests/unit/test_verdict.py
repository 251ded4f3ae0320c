"""What a probe says of its tunnel, fact by fact."""

import pytest

from circumvent.tunnels.verdict import MAX_MISSES, ProbeFacts, ProbeVerdict, judge


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
        (ProbeFacts(passed=False, is_silent=True), ProbeVerdict.ALL_SILENT),
        (ProbeFacts(passed=False, is_silent=True, is_alone=True), ProbeVerdict.DEAD),
        (ProbeFacts(passed=False, is_silent=True, is_long=True), ProbeVerdict.DEAD),
    ],
)
def test_the_verdict_follows_from_the_facts(facts: ProbeFacts, verdict: ProbeVerdict) -> None:
    assert judge(facts) is verdict
