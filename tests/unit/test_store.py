"""The store: what is remembered, and what a crash or a broken file may cost."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from circumvent.errors import ConfigError
from circumvent.state import database
from circumvent.state.attempts import Attempt
from circumvent.state.database import Need, Warn
from circumvent.state.store import MAX_ATTEMPTS, MAX_DETAIL, SavedServer, Store

LINK = "ss://c2VjcmV0@192.0.2.7:8388"
BEN = SavedServer("b", "shadowsocks", "Ben", LINK)

_open: list[Store] = []


def opened(path: Path, warn: Warn = warnings.warn, need: Need = Need.NOTHING) -> Store:
    """A store that is closed when the test ends, if the test does not."""
    store = Store(path, warn, need)
    _open.append(store)
    return store


@pytest.fixture(autouse=True)
def closed_in_the_end() -> Iterator[None]:
    yield
    while _open:
        with contextlib.suppress(sqlite3.ProgrammingError):  # the test closed it itself
            _open.pop().close()


def an_attempt(number: int = 0, server: str = "a1b2c3") -> Attempt:
    return Attempt(
        at=1000.0 + number, what="probe", server=server, stage="tls", outcome="failed", errno=104
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


@pytest.fixture
def store(path: Path) -> Store:
    return opened(path)


def test_attempts_come_back_newest_first(store: Store) -> None:
    for number in range(3):
        store.record(an_attempt(number))
    assert store.attempts(2) == [an_attempt(2), an_attempt(1)]


def test_attempts_can_be_asked_for_one_server(store: Store) -> None:
    store.record(an_attempt(0, "one"))
    store.record(an_attempt(1, "two"))
    assert store.attempts(10, "one") == [an_attempt(0, "one")]


def test_failures_can_be_asked_for_alone(store: Store) -> None:
    for outcome in ("ok", "failed", "cancelled", "timeout"):
        store.record(Attempt(1.0, "race", "a", "dial", outcome))
    asked = store.attempts(10, "a", failures=True)
    assert [attempt.outcome for attempt in asked] == ["timeout", "failed"]


def test_only_the_newest_attempts_are_kept(path: Path) -> None:
    store = opened(path)
    for number in range(MAX_ATTEMPTS + 7):
        store.record(an_attempt(number))
        if number % 100 == 0:
            store.flush()
    kept = store.attempts(MAX_ATTEMPTS * 2)
    assert [attempt.at for attempt in (kept[0], kept[-1])] == [2006.0, 1007.0]
    assert len(kept) == MAX_ATTEMPTS


def test_a_long_detail_is_cut(store: Store) -> None:
    store.record(Attempt(1.0, "race", "a", "dial", "failed", detail="x" * 1000))
    assert len(store.attempts(1)[0].detail) == MAX_DETAIL


def test_an_attempt_names_its_errno() -> None:
    assert an_attempt().errno_name == "ECONNRESET"
    assert Attempt(1.0, "race", "a", "dial", "ok").errno_name == ""


def test_probes_and_user_traffic_are_scored_apart(store: Store) -> None:
    store.remember("home", "a", ok=True, ms=10, user_bytes=0)
    store.remember("home", "a", ok=False, ms=10, user_bytes=0)
    store.remember("home", "a", ok=False, ms=10, user_bytes=16384)
    score = store.scores("home")["a"]
    assert (score.successes, score.failures, score.user_failures) == (1, 1, 1)
    assert score.last_ok == pytest.approx(time.time(), abs=5)


def test_scores_belong_to_one_network(store: Store) -> None:
    store.remember("home", "a", ok=True, ms=10, user_bytes=0)
    assert store.scores("cafe") == {}


def test_a_failure_leaves_the_average_time_alone(store: Store) -> None:
    for ok, ms in ((False, 900), (True, 100), (True, 200), (False, 5000)):
        store.remember("home", "a", ok=ok, ms=ms, user_bytes=0)
    assert store.scores("home")["a"].ms == pytest.approx(130)


def test_old_news_fade(store: Store) -> None:
    for _ in range(1000):
        store.remember("home", "a", ok=False, ms=1, user_bytes=0)
    for _ in range(12):
        store.remember("home", "a", ok=True, ms=1, user_bytes=0)
    score = store.scores("home")["a"]
    assert score.successes > score.failures


def test_servers_are_saved_until_removed(path: Path) -> None:
    store = opened(path)
    store.add_servers([SavedServer("a", "shadowsocks", "Ann", LINK), BEN])
    assert store.remove_servers(["a"]) == {"a": True}
    assert store.remove_servers(["a"]) == {"a": False}
    store.close()
    (saved,) = opened(path).servers()
    assert (saved.id, saved.transport, saved.name, saved.link) == ("b", "shadowsocks", "Ben", LINK)
    assert "c2VjcmV0" not in repr(saved)


def test_network_ids_are_salted_and_stable(path: Path, tmp_path: Path) -> None:
    first = opened(path).network_id(b"192.0.2.1 aa:bb")
    assert opened(path).network_id(b"192.0.2.1 aa:bb") == first
    assert opened(path).network_id(b"192.0.2.1 aa:bc") != first
    assert opened(tmp_path / "other.db").network_id(b"192.0.2.1 aa:bb") != first


def test_nobody_else_can_read_the_files(path: Path) -> None:
    store = opened(path)
    store.record(an_attempt())
    store.flush()
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    Store(path).close()
    path.chmod(0o644)
    Store(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_leads_elsewhere_is_not_followed(path: Path) -> None:
    """As others may have left it in a directory that they could write to."""
    path.parent.mkdir(mode=0o700)
    precious = path.with_name("precious")
    precious.touch(0o644)
    path.symlink_to(precious)
    told: list[str] = []
    opened(path, told.append).add_servers([BEN])
    assert precious.read_bytes() == b""
    assert precious.stat().st_mode & 0o777 == 0o644
    assert "a link to somewhere else" in told[-1]
    with pytest.raises(ConfigError, match="a link to somewhere else"):
        opened(path, need=Need.WRITING)


def test_a_file_that_never_answers_is_not_waited_for(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="no file of yours"):
        opened(path, need=Need.READING)


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_directory_that_others_could_write_to_is_closed_to_them(path: Path, mode: int) -> None:
    path.parent.mkdir()
    path.parent.chmod(mode)
    warnings: list[str] = []
    Store(path, warnings.append).close()
    Store(path, warnings.append).close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(warnings) == 1


@pytest.mark.parametrize("owner", ["everybody", "somebody else"])
def test_what_lies_where_others_can_write_is_neither_read_nor_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    planted = opened(path)
    planted.add_servers([SavedServer("id", "trojan", "", "trojan://evil")])
    planted.close()
    before = path.read_bytes()
    if owner == "everybody":
        path.parent.chmod(0o1777)  # such as /tmp
    elif os.geteuid() == 0:
        os.chown(path.parent, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    for need in (Need.WRITING, Need.READING):
        with pytest.raises(ConfigError, match=r"others can write|belongs to another user"):
            Store(path, need=need)
    warnings: list[str] = []
    store = Store(path, warnings.append)
    assert not store.servers()
    store.close()
    assert len(warnings) == 1
    assert path.read_bytes() == before


def test_a_corrupted_file_is_set_aside_with_one_warning(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database at all" * 500)
    warnings: list[str] = []
    store = opened(path, warnings.append)
    store.record(an_attempt())
    assert store.attempts(1) == [an_attempt()]
    (kept,) = path.parent.glob("state.db.corrupt-*")
    assert kept.read_bytes().startswith(b"not a database")
    assert len(warnings) == 1
    assert str(kept) in warnings[0]


def test_damaged_pages_are_found_at_the_start(path: Path) -> None:
    store = opened(path)
    for number in range(MAX_ATTEMPTS):
        store.record(an_attempt(number))
    store.close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 :] = random.Random(1).randbytes(len(data) - 4096 * 2)
    path.write_bytes(data)
    warnings: list[str] = []
    assert opened(path, warnings.append).attempts(5) == []
    assert len(warnings) == 1


def test_a_file_that_breaks_while_running_is_replaced_and_nothing_buffered_is_lost(
    path: Path,
) -> None:
    warnings: list[str] = []
    store = opened(path, warnings.append)
    store.record(an_attempt(0))
    store.flush()
    for file in path.parent.iterdir():
        file.write_bytes(b"\xff" * 65536)
    store.record(an_attempt(1))
    store.flush()
    assert store.attempts(5) == [an_attempt(1)]
    assert len(warnings) == 1


def test_a_locked_file_keeps_the_buffer_and_warns_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    warnings: list[str] = []
    store = opened(path, warnings.append)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.record(an_attempt())
    store.flush()
    store.flush()
    other.execute("ROLLBACK")
    other.close()
    assert store.attempts(1) == [an_attempt()]
    assert len(warnings) == 1


@pytest.mark.parametrize("need", [Need.WRITING, Need.READING])
def test_a_place_that_cannot_be_used_is_a_configuration_error_for_who_needs_it(
    tmp_path: Path, need: Need
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="choose another --state-dir"):
        Store(tmp_path / "file" / "state.db", need=need)


def test_where_nothing_can_be_kept_the_store_lives_in_memory_with_one_warning(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    told: list[str] = []
    store = opened(tmp_path / "file" / "state.db", told.append)
    store.record(an_attempt())
    assert store.attempts(1) == [an_attempt()]
    (warning,) = told
    assert f"nothing can be kept in {tmp_path / 'file'}" in warning


def test_a_pipe_in_the_place_of_the_file_holds_nobody_up(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    told: list[str] = []
    opened(path, told.append)
    assert "no file of yours" in told[0]


def test_without_a_home_directory_none_is_invented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    opened(Path("~/.local/state/state.db"), told.append)
    assert "HOME is not set" in told[0]
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_what_was_kept_is_still_known(path: Path) -> None:
    kept = opened(path)
    kept.add_servers([BEN])
    kept.record(an_attempt(0))
    network = kept.network_id(b"home")
    kept.close()
    told: list[str] = []
    with full_disk():
        store = opened(path, told.append)
        assert store.servers() == [BEN]
        assert store.network_id(b"home") == network
        store.record(an_attempt(1))
        assert store.attempts(5) == [an_attempt(1), an_attempt(0)]
        store.flush()
        assert opened(path, told.append, Need.READING).servers() == [BEN]
    assert len(told) == 1
    store.close()
    assert opened(path).attempts(5) == [an_attempt(0)]


def test_on_a_full_disk_who_wants_to_save_is_told_and_nothing_is_half_done(path: Path) -> None:
    store = opened(path, need=Need.WRITING)
    store.add_servers([BEN])
    with full_disk():
        with pytest.raises(ConfigError, match="nothing was changed"):
            store.add_servers([SavedServer(str(n), "trojan", "", LINK) for n in range(100)])
        with pytest.raises(ConfigError, match="nothing was changed"):
            store.write("INSERT INTO notes VALUES ('a', 'b', 'c')")
        with pytest.raises(ConfigError, match="choose another --state-dir"):
            Store(path.with_name("new") / "state.db", need=Need.WRITING)
    assert store.servers() == [BEN]


def test_a_file_that_another_holds_for_ever_holds_nobody_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.01)
    opened(path).add_servers([BEN])
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    _open.pop().close()
    holder.execute("BEGIN EXCLUSIVE")
    told: list[str] = []
    store = opened(path, told.append)
    assert store.servers() == [BEN]
    assert "database is locked" in told[0]
    holder.close()


def test_a_broken_file_that_cannot_be_set_aside_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database at all" * 500)
    told: list[str] = []

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "rename", refuse)
    store = opened(path, told.append)
    assert store.servers() == []
    assert len(told) == 1
    assert "Permission denied" in told[0]


def test_a_file_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    Store(path).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(ConfigError, match="update circumvent"):
        opened(path)
    assert not list(path.parent.glob("*corrupt*"))


# One interpreter starts and reads our modules once: then each writer is but a fork of it.
WRITERS = """
import os, sys
from pathlib import Path
from circumvent.state.attempts import Attempt
from circumvent.state.store import Store

def say(word):
    os.write(1, f"{word}\\n".encode())  # at once or not at all, whoever is killed

def write(number):
    store = Store(Path(sys.argv[1]))
    say(os.getpid())
    while True:
        for _ in range(20):
            store.record(Attempt(number, "race", "a", "dial", "ok"))
            store.remember("home", "a", ok=True, ms=1, user_bytes=0)
        store.flush()
        say(number)
        number += 1

for line in sys.stdin:
    writer = os.fork()
    if not writer:
        write(int(line))
    os.waitpid(writer, 0)
    say("killed")
"""


def test_what_was_flushed_survives_kill_9_in_the_middle_of_writing(path: Path) -> None:
    chance = random.Random(7)
    flushed = 0
    with subprocess.Popen(
        [sys.executable, "-c", WRITERS, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writers:
        for _ in range(8):
            flushed = _write_until_killed(writers, flushed + 1, chance.uniform(0.002, 0.03))
            warnings: list[str] = []
            store = opened(path, warnings.append)
            kept = [attempt.at for attempt in store.attempts(MAX_ATTEMPTS)]
            store.close()
            assert warnings == []
            assert kept[0] >= flushed
            assert all(kept.count(at) == 20 for at in set(kept)), "half a transaction"
            flushed = int(kept[0])


def _write_until_killed(writers: subprocess.Popen[str], number: int, seconds: float) -> int:
    """Kill a writer some time after its first flush; returns the last flush it reported."""
    assert writers.stdin is not None
    assert writers.stdout is not None
    writers.stdin.write(f"{number}\n")
    writers.stdin.flush()
    writer = int(writers.stdout.readline())
    lines = [writers.stdout.readline()]
    time.sleep(seconds)
    os.kill(writer, signal.SIGKILL)
    lines += itertools.takewhile("killed\n".__ne__, writers.stdout)
    return int(lines[-1])
