"""The order in which servers are tried: what worked here first, and what differs most."""

from __future__ import annotations

from circumvent.cli.links import transports_of
from circumvent.plugins import load_plugins
from circumvent.state.scores import Score
from circumvent.tunnels.candidate import Candidate, parse_candidate
from circumvent.tunnels.order import least_alike, rank

TRANSPORTS = transports_of(load_plugins())


def server(host: str, scheme: str = "trojan") -> Candidate:
    user = "secret" if scheme == "trojan" else "YWVzLTEyOC1nY206c2VjcmV0"
    return parse_candidate(f"{scheme}://{user}@{host}:443", TRANSPORTS)


def score(successes: int, failures: int = 0, user_failures: int = 0, last_ok: float = 1.0) -> Score:
    return Score(successes, failures, 50.0, user_failures, last_ok)


def test_what_worked_on_this_network_comes_first_then_who_fails_least() -> None:
    scores = {
        "steady.test": score(100, 5),
        "cut.test": score(6, 0, 2),  # users' traffic: 4 of 10
        "flaky.test": score(2, 5),
        "failed.test": score(0, 1, last_ok=0.0),
    }
    hosts = ["failed.test", "flaky.test", "unknown.test", "cut.test", "steady.test"]
    servers = {host: server(host) for host in hosts}
    known = {servers[host].id: each for host, each in scores.items()}
    assert [each.entry.host for each in rank(servers.values(), known)] == [
        *("steady.test", "cut.test", "flaky.test"),
        *("unknown.test", "failed.test"),
    ]


def test_equal_ones_are_shuffled() -> None:
    servers = [server(f"{number}.test") for number in range(8)]
    orders = {tuple(each.id for each in rank(servers, {})) for _ in range(20)}
    assert len(orders) > 1


def test_the_next_one_shares_least_with_those_in_use() -> None:
    one, neighbour = server("192.0.2.1"), server("192.0.2.2", "ss")
    same_kind, other = server("198.51.100.1"), server("203.0.113.1", "ss")
    assert least_alike([neighbour, same_kind, other], [one]) is other
    assert least_alike([neighbour, same_kind], [one, other]) is same_kind
    assert least_alike([neighbour, same_kind], []) is neighbour
    assert least_alike([], [one]) is None
