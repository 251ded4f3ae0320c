"""New connections work while servers are killed and frozen."""

import pytest

from tests.bench.contenders import OURS, PEER
from tests.e2e.asking import await_tunnels, status
from tests.e2e.failover import Round, faults, fresh_faults, scene, summary
from tests.e2e.new_connections import get

AFTER_KILL = 1.0  # seconds
AFTER_FREEZE = 3.0
PROVEN_ROUNDS = 20
PEER_SECONDS = 30.0  # of 178 that its outage lasts


def check(rounds: list[Round]) -> None:
    print(summary(OURS.name, rounds))
    for each in rounds:
        assert max(each.kill.next_success, each.kill.last_failure) <= AFTER_KILL, each.kill
        assert max(each.freeze.next_success, each.freeze.last_failure) <= AFTER_FREEZE, each.freeze


def test_connections_leave_a_killed_and_a_frozen_server_in_time() -> None:
    check(list(faults(OURS, rounds=1)))


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_connections_leave_servers_that_fail_again_and_again_in_time() -> None:
    check(list(faults(OURS, PROVEN_ROUNDS)))


@pytest.mark.prove
@pytest.mark.timeout(180)
def test_the_peer_is_measured_the_same_way() -> None:
    print(summary(PEER.name, [fresh_faults(PEER, PEER_SECONDS)]))


def test_a_destination_that_answers_after_five_seconds_causes_no_failover() -> None:
    with scene(OURS) as (_, running):
        before = {(tunnel.server, tunnel.opened_at) for tunnel in await_tunnels(running, 3).tunnels}
        assert get(running.through, "/after/5", patience=10).startswith(b"HTTP/1.1 200")
        after = {(tunnel.server, tunnel.opened_at) for tunnel in status(running).tunnels}
    assert after == before
