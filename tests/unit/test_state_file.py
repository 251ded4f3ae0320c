"""The state file: who can read it, and what a broken, locked or unwritable one costs."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from circumvent.errors import ConfigError
from circumvent.state.attempts import MAX_ATTEMPTS
from circumvent.state.file import Need
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


def test_only_the_user_can_read_the_files(path: Path, opened: OpenStore) -> None:
    store = opened(path)
    store.attempts.record(an_attempt())
    store.flush()
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    Store(path).close()
    path.chmod(0o644)
    Store(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_symbolic_link_is_not_followed(path: Path, opened: OpenStore) -> None:
    """As others may have left it in a directory that they could write to."""
    path.parent.mkdir(mode=0o700)
    precious = path.with_name("precious")
    precious.touch(0o644)
    path.symlink_to(precious)
    told: list[str] = []
    opened(path, told.append).servers.add([BEN])
    assert precious.read_bytes() == b""
    assert precious.stat().st_mode & 0o777 == 0o644
    assert "a link to somewhere else" in told[-1]
    with pytest.raises(ConfigError, match="a link to somewhere else"):
        opened(path, need=Need.WRITING)


def test_reading_does_not_wait_for_a_pipe(path: Path, opened: OpenStore) -> None:
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
def test_a_file_where_others_can_write_is_neither_read_nor_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, opened: OpenStore
) -> None:
    planted = opened(path)
    planted.servers.add([SavedServer("id", "trojan", "", "trojan://evil")])
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
    assert not store.servers.all()
    store.close()
    assert len(warnings) == 1
    assert path.read_bytes() == before


def test_a_corrupted_file_is_set_aside_with_one_warning(path: Path, opened: OpenStore) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database at all" * 500)
    warnings: list[str] = []
    store = opened(path, warnings.append)
    store.attempts.record(an_attempt())
    assert store.attempts.newest(1) == [an_attempt()]
    (kept,) = path.parent.glob("state.db.corrupt-*")
    assert kept.read_bytes().startswith(b"not a database")
    assert len(warnings) == 1
    assert str(kept) in warnings[0]


def test_damaged_pages_are_found_at_the_start(path: Path, opened: OpenStore) -> None:
    store = opened(path)
    for number in range(MAX_ATTEMPTS):
        store.attempts.record(an_attempt(number))
    store.close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 :] = random.Random(1).randbytes(len(data) - 4096 * 2)
    path.write_bytes(data)
    warnings: list[str] = []
    assert opened(path, warnings.append).attempts.newest(5) == []
    assert len(warnings) == 1


def test_a_file_that_breaks_while_running_is_replaced_and_nothing_buffered_is_lost(
    path: Path, opened: OpenStore
) -> None:
    warnings: list[str] = []
    store = opened(path, warnings.append)
    store.attempts.record(an_attempt(0))
    store.flush()
    for file in path.parent.iterdir():
        file.write_bytes(b"\xff" * 65536)
    store.attempts.record(an_attempt(1))
    store.flush()
    assert store.attempts.newest(5) == [an_attempt(1)]
    assert len(warnings) == 1


def test_a_locked_file_keeps_the_buffer_and_warns_once(path: Path, opened: OpenStore) -> None:
    warnings: list[str] = []
    store = opened(path, warnings.append, busy_seconds=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.attempts.record(an_attempt())
    store.flush()
    store.flush()
    other.execute("ROLLBACK")
    other.close()
    assert store.attempts.newest(1) == [an_attempt()]
    assert len(warnings) == 1


@pytest.mark.parametrize("need", [Need.WRITING, Need.READING])
def test_a_place_that_cannot_be_used_is_a_configuration_error_if_it_is_needed(
    tmp_path: Path, need: Need
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="choose another --state-dir"):
        Store(tmp_path / "file" / "state.db", need=need)


def test_where_nothing_can_be_kept_the_store_lives_in_memory_with_one_warning(
    tmp_path: Path, opened: OpenStore
) -> None:
    (tmp_path / "file").touch()
    told: list[str] = []
    store = opened(tmp_path / "file" / "state.db", told.append)
    store.attempts.record(an_attempt())
    assert store.attempts.newest(1) == [an_attempt()]
    (warning,) = told
    assert f"nothing can be kept in {tmp_path / 'file'}" in warning


def test_a_pipe_in_the_place_of_the_file_does_not_block(path: Path, opened: OpenStore) -> None:
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    told: list[str] = []
    opened(path, told.append)
    assert "no file of yours" in told[0]


def test_without_a_home_directory_none_is_invented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: OpenStore
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


def test_on_a_full_disk_what_was_kept_is_still_known(path: Path, opened: OpenStore) -> None:
    kept = opened(path)
    kept.servers.add([BEN])
    kept.attempts.record(an_attempt(0))
    network = kept.scores.network_id(b"home")
    kept.close()
    told: list[str] = []
    with full_disk():
        store = opened(path, told.append)
        assert store.servers.all() == [BEN]
        assert store.scores.network_id(b"home") == network
        store.attempts.record(an_attempt(1))
        assert store.attempts.newest(5) == [an_attempt(1), an_attempt(0)]
        store.flush()
        assert opened(path, told.append, Need.READING).servers.all() == [BEN]
    assert len(told) == 1
    store.close()
    assert opened(path).attempts.newest(5) == [an_attempt(0)]


def test_on_a_full_disk_saving_fails_and_nothing_is_half_done(
    path: Path, opened: OpenStore
) -> None:
    store = opened(path, need=Need.WRITING)
    store.servers.add([BEN])
    with full_disk():
        with pytest.raises(ConfigError, match="nothing was changed"):
            store.servers.add([SavedServer(str(n), "trojan", "", LINK) for n in range(100)])
        with pytest.raises(ConfigError, match="nothing was changed"):
            store.origins.note("a", "b", {})
        with pytest.raises(ConfigError, match="choose another --state-dir"):
            Store(path.with_name("new") / "state.db", need=Need.WRITING)
    assert store.servers.all() == [BEN]


def test_a_file_that_stays_locked_does_not_block(path: Path, opened: OpenStore) -> None:
    kept = opened(path)
    kept.servers.add([BEN])
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    kept.close()
    holder.execute("BEGIN EXCLUSIVE")
    told: list[str] = []
    store = opened(path, told.append, busy_seconds=0.01)
    assert store.servers.all() == [BEN]
    assert "database is locked" in told[0]
    holder.close()


def test_a_broken_file_that_cannot_be_set_aside_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, opened: OpenStore
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database at all" * 500)
    told: list[str] = []

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "rename", refuse)
    store = opened(path, told.append)
    assert store.servers.all() == []
    assert len(told) == 1
    assert "Permission denied" in told[0]


def test_a_file_of_a_newer_version_is_refused_and_left_alone(path: Path, opened: OpenStore) -> None:
    Store(path).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(ConfigError, match="update circumvent"):
        opened(path)
    assert not list(path.parent.glob("*corrupt*"))
