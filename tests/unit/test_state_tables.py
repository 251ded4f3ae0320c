"""The tables of the state file: attempts, scores and saved servers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from circumvent.state.attempts import MAX_ATTEMPTS, MAX_DETAIL, Attempt
from circumvent.state.servers import SavedServer
from circumvent.state.store import Store
from tests.unit.conftest import OpenStore
from tests.unit.state_rows import BEN, LINK, an_attempt


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


@pytest.fixture
def store(path: Path, opened: OpenStore) -> Store:
    return opened(path)


def test_attempts_come_back_newest_first(store: Store) -> None:
    for number in range(3):
        store.attempts.record(an_attempt(number))
    assert store.attempts.newest(2) == [an_attempt(2), an_attempt(1)]


def test_attempts_can_be_asked_for_one_server(store: Store) -> None:
    store.attempts.record(an_attempt(0, "one"))
    store.attempts.record(an_attempt(1, "two"))
    assert store.attempts.newest(10, "one") == [an_attempt(0, "one")]


def test_failures_can_be_asked_for_alone(store: Store) -> None:
    for outcome in ("ok", "failed", "cancelled", "timeout"):
        store.attempts.record(Attempt(1.0, "race", "a", "dial", outcome))
    asked = store.attempts.newest(10, "a", failures=True)
    assert [attempt.outcome for attempt in asked] == ["timeout", "failed"]


def test_only_the_newest_attempts_are_kept(path: Path, opened: OpenStore) -> None:
    store = opened(path)
    for number in range(MAX_ATTEMPTS + 7):
        store.attempts.record(an_attempt(number))
        if number % 100 == 0:
            store.flush()
    kept = store.attempts.newest(MAX_ATTEMPTS * 2)
    assert [attempt.at for attempt in (kept[0], kept[-1])] == [2006.0, 1007.0]
    assert len(kept) == MAX_ATTEMPTS


def test_a_long_detail_is_cut(store: Store) -> None:
    store.attempts.record(Attempt(1.0, "race", "a", "dial", "failed", detail="x" * 1000))
    assert len(store.attempts.newest(1)[0].detail) == MAX_DETAIL


def test_an_attempt_names_its_errno() -> None:
    assert an_attempt().errno_name == "ECONNRESET"
    assert Attempt(1.0, "race", "a", "dial", "ok").errno_name == ""


def test_probes_and_user_traffic_are_scored_apart(store: Store) -> None:
    store.scores.remember("home", "a", ok=True, ms=10, user_bytes=0)
    store.scores.remember("home", "a", ok=False, ms=10, user_bytes=0)
    store.scores.remember("home", "a", ok=False, ms=10, user_bytes=16384)
    score = store.scores.on("home")["a"]
    assert (score.successes, score.failures, score.user_failures) == (1, 1, 1)
    assert score.last_ok == pytest.approx(time.time(), abs=5)


def test_scores_belong_to_one_network(store: Store) -> None:
    store.scores.remember("home", "a", ok=True, ms=10, user_bytes=0)
    assert store.scores.on("cafe") == {}


def test_a_failure_leaves_the_average_time_alone(store: Store) -> None:
    for ok, ms in ((False, 900), (True, 100), (True, 200), (False, 5000)):
        store.scores.remember("home", "a", ok=ok, ms=ms, user_bytes=0)
    assert store.scores.on("home")["a"].ms == pytest.approx(130)


def test_old_results_fade(store: Store) -> None:
    for _ in range(1000):
        store.scores.remember("home", "a", ok=False, ms=1, user_bytes=0)
    for _ in range(12):
        store.scores.remember("home", "a", ok=True, ms=1, user_bytes=0)
    score = store.scores.on("home")["a"]
    assert score.successes > score.failures


def test_servers_are_saved_until_removed(path: Path, opened: OpenStore) -> None:
    store = opened(path)
    store.servers.add([SavedServer("a", "shadowsocks", "Ann", LINK), BEN])
    assert store.servers.remove(["a"]) == {"a": True}
    assert store.servers.remove(["a"]) == {"a": False}
    store.close()
    (saved,) = opened(path).servers.all()
    assert (saved.id, saved.transport, saved.name, saved.link) == ("b", "shadowsocks", "Ben", LINK)
    assert "c2VjcmV0" not in repr(saved)


def test_network_ids_are_salted_and_stable(path: Path, tmp_path: Path, opened: OpenStore) -> None:
    first = opened(path).scores.network_id(b"192.0.2.1 aa:bb")
    assert opened(path).scores.network_id(b"192.0.2.1 aa:bb") == first
    assert opened(path).scores.network_id(b"192.0.2.1 aa:bc") != first
    assert opened(tmp_path / "other.db").scores.network_id(b"192.0.2.1 aa:bb") != first


def test_the_first_key_of_a_server_counts_until_it_is_forgotten(store: Store) -> None:
    assert store.certificates.keep("a", b"first") == b"first"
    assert store.certificates.keep("a", b"second") == b"first"
    assert store.certificates.forget(["a", "b"]) == {"a": True, "b": False}
    assert store.certificates.keep("a", b"second") == b"second"


def test_a_refused_certificate_is_told_until_the_right_one_works_again(store: Store) -> None:
    store.certificates.keep("a", b"right")
    store.certificates.refuse("a")
    store.certificates.keep("a", b"wrong")
    assert store.certificates.warnings
    store.certificates.keep("a", b"right")
    assert not store.certificates.warnings
