"""Opens the SQLite file that survives ``kill -9``; a corrupted file is set aside and rebuilt.

Where the file cannot be written, its content is used from memory: a tunnel needs no file.
"""

from __future__ import annotations

import enum
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from circumvent.errors import ConfigError
from circumvent.typed_toml import SECRET_MODE, UnsafePlaceError, make_private

BUSY_SECONDS = 0.5  # another command may lock the file; the event loop cannot wait for long
CACHE_KIB = 256  # the file is small; SQLite's own default is 2 MB

Warn = Callable[[str], None]


class Need(enum.Enum):
    """What a command cannot do without."""

    WRITING = enum.auto()
    READING = enum.auto()
    NOTHING = enum.auto()


@dataclass(frozen=True, slots=True)
class StateFile:
    """Where the file is and how it is opened.

    ``schemas`` holds one script for each version of the file; an older file gets those that it
    lacks. ``busy_seconds`` is how long a statement waits for another process.
    """

    path: Path
    schemas: Sequence[str]
    warn: Warn
    need: Need = Need.NOTHING
    busy_seconds: float = BUSY_SECONDS

    def open(self) -> sqlite3.Connection:
        """Open or create the file; where that fails, copy its content to memory if that suffices.

        Raises ConfigError when the file does not even allow what is needed.
        """
        try:
            _make_private(self.path, self.warn)
            return self._open_or_rebuild()
        except (OSError, sqlite3.OperationalError) as error:
            trouble = error
        try:
            if self.need is Need.WRITING or isinstance(trouble, UnsafePlaceError):
                raise trouble
            copy = self._copy()
        except (OSError, sqlite3.Error) as error:
            if self.need is not Need.NOTHING:
                raise ConfigError(
                    f"the state file {self.path} cannot be used: {error}; choose another"
                    " --state-dir",
                    stage="state",
                ) from error
            copy = self._prepared(_in_memory())
        if self.need is Need.NOTHING:
            self.warn(
                f"nothing can be kept in {self.path.parent}: {trouble}; what circumvent learns is"
                " forgotten when it stops (another --state-dir may help)"
            )
        return copy

    def set_aside(self) -> None:
        """Rename the broken file, with its journal, and tell the user once. Raises OSError."""
        path = self.path
        target = path.with_name(f"{path.name}.corrupt-{time.time_ns() // 1_000_000}")
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(target.with_name(target.name + suffix))
        self.warn(
            f"the state file was corrupted: it is kept as {target}, and a new one was started"
        )

    def _open_or_rebuild(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            if not is_corruption(error):
                raise
        self.set_aside()
        _make_private(self.path, self.warn)
        return self._open()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self.busy_seconds, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            return self._prepared(connection)
        except BaseException:
            connection.close()
            raise

    def _copy(self) -> sqlite3.Connection:
        """The content in memory; nothing if there is no file. Raises OSError, sqlite3.Error."""
        copy = _in_memory()
        try:
            if _exists(self.path):
                try:
                    self._read_into(copy, "mode=ro")
                except sqlite3.OperationalError:  # no journal can be made: read without one
                    self._read_into(copy, "immutable=1")
            return self._prepared(copy)
        except BaseException:
            copy.close()
            raise

    def _read_into(self, copy: sqlite3.Connection, how: str) -> None:
        place = f"{self.path.absolute().as_uri()}?{how}"
        with closing(sqlite3.connect(place, uri=True, timeout=self.busy_seconds)) as source:
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_master").fetchall()  # backup() waits for ever
            source.backup(copy)

    def _prepared(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        _check(connection)
        self._ensure_schema(connection)
        return connection

    def _ensure_schema(self, connection: sqlite3.Connection) -> None:
        newest = len(self.schemas)
        if _version(connection) < newest:
            connection.execute("BEGIN IMMEDIATE")
            # Asked again: another process may have held the lock.
            self._upgrade(connection, _version(connection))
            connection.execute("COMMIT")
        if (version := _version(connection)) != newest:
            raise ConfigError(
                f"the state file {self.path} has format {version}, this circumvent reads format"
                f" {newest}: update circumvent or choose another --state-dir",
                stage="state",
            )

    def _upgrade(self, connection: sqlite3.Connection, version: int) -> None:
        for script in self.schemas[version:]:
            for statement in filter(str.strip, script.split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {max(version, len(self.schemas))}")


def is_corruption(error: sqlite3.Error) -> bool:
    """Whether the file itself is broken (a full disk or a lock is not)."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _in_memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def _exists(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        error = sqlite3.DatabaseError(verdict)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _make_private(path: Path, warn: Warn) -> None:
    """Create the file before SQLite does, because SQLite gives the journal the same mode."""
    if not make_private(path.parent):
        warn(f"others could write to {path.parent}, and maybe did; from now on only you can")
    # Others may have left a pipe there, or a link to another file.
    if path.is_symlink():
        raise UnsafePlaceError("it is a link to somewhere else")
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, SECRET_MODE)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise UnsafePlaceError("it is no file of yours")
        os.fchmod(descriptor, SECRET_MODE)
    finally:
        os.close(descriptor)
