"""Opens the SQLite file that outlives ``kill -9``; a corrupted one is set aside and rebuilt.

Where nothing can be kept, what is known is used from memory: a tunnel needs no file.
"""

from __future__ import annotations

import enum
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from circumvent.errors import ConfigError
from circumvent.typed_toml import SECRET_MODE, UnsafePlaceError, make_private

BUSY_SECONDS = 0.5  # another command may hold the file; the event loop cannot wait for long
CACHE_KIB = 256  # the file is small; SQLite's own default is 2 MB
SALT_BYTES = 32
_MS = 1000

# One script for each version of the file; a file of an older version gets those it lacks.
SCHEMAS = (
    """
CREATE TABLE salt (value BLOB NOT NULL);
CREATE TABLE servers (
    id TEXT PRIMARY KEY, transport TEXT NOT NULL, name TEXT NOT NULL, link TEXT NOT NULL
) STRICT;
CREATE TABLE attempts (
    number INTEGER PRIMARY KEY, at REAL NOT NULL, what TEXT NOT NULL, server TEXT NOT NULL,
    stage TEXT NOT NULL, outcome TEXT NOT NULL, errno INTEGER, ms REAL NOT NULL,
    peak INTEGER NOT NULL, detail TEXT NOT NULL
) STRICT;
CREATE TABLE scores (
    network TEXT NOT NULL, server TEXT NOT NULL, successes INTEGER NOT NULL,
    failures INTEGER NOT NULL, ms REAL NOT NULL, user_failures INTEGER NOT NULL,
    last_ok REAL NOT NULL, touched REAL NOT NULL, PRIMARY KEY (network, server)
) STRICT;
""",
    """
CREATE TABLE origins (
    id TEXT PRIMARY KEY, link TEXT NOT NULL, saved INTEGER NOT NULL, trust BLOB NOT NULL,
    version INTEGER NOT NULL, bundle BLOB NOT NULL, fetched REAL NOT NULL
) STRICT;
CREATE TABLE notes (
    origin TEXT NOT NULL, source TEXT NOT NULL, notes TEXT NOT NULL, PRIMARY KEY (origin, source)
) STRICT;
""",
)
SCHEMA_VERSION = len(SCHEMAS)

Warn = Callable[[str], None]


class Need(enum.Enum):
    """What of the file somebody cannot do without."""

    WRITING = enum.auto()
    READING = enum.auto()
    NOTHING = enum.auto()


def open_database(path: Path, warn: Warn, need: Need = Need.NOTHING) -> sqlite3.Connection:
    """Open or create the file. Where that cannot be, its content in memory, if that will do.

    Raises ConfigError when the place does not even allow what is needed.
    """
    try:
        _make_private(path, warn)
        return _open_or_rebuild(path, warn)
    except (OSError, sqlite3.OperationalError) as error:
        trouble = error
    try:
        if need is Need.WRITING or isinstance(trouble, UnsafePlaceError):
            raise trouble
        known = _copy(path)
    except (OSError, sqlite3.Error) as error:
        if need is not Need.NOTHING:
            message = f"the state file {path} cannot be used: {error}; choose another --state-dir"
            raise ConfigError(message, stage="state") from error
        known = _prepared(sqlite3.connect(":memory:", isolation_level=None), path)
    if need is Need.NOTHING:
        warn(
            f"nothing can be kept in {path.parent}: {trouble}; what works where is forgotten when"
            " circumvent stops (another --state-dir may do)"
        )
    return known


def wait_for_locks(connection: sqlite3.Connection, seconds: float) -> None:
    """How long statements wait for others from now on."""
    connection.execute(f"PRAGMA busy_timeout = {int(seconds * _MS)}")


def is_corruption(error: sqlite3.Error) -> bool:
    """Whether the file itself is broken (a full disk or a lock is not)."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def set_aside(path: Path, warn: Warn) -> None:
    """Rename the broken file, with its journal, and say so once."""
    target = path.with_name(f"{path.name}.corrupt-{time.time_ns() // 1_000_000}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(target.with_name(target.name + suffix))
    warn(f"the state file was corrupted: it is kept as {target}, and a new one was started")


def _open_or_rebuild(path: Path, warn: Warn) -> sqlite3.Connection:
    try:
        return _open(path)
    except sqlite3.DatabaseError as error:
        if not is_corruption(error):
            raise
    set_aside(path, warn)
    _make_private(path, warn)
    return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return _prepared(connection, path)
    except BaseException:
        connection.close()
        raise


def _copy(path: Path) -> sqlite3.Connection:
    """The content in memory; nothing if there is no file. Raises OSError, sqlite3.Error."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        if _exists(path):
            try:
                _read_into(copy, path, "mode=ro")
            except sqlite3.OperationalError:  # no journal can be made: read it as it lies there
                _read_into(copy, path, "immutable=1")
        return _prepared(copy, path)
    except BaseException:
        copy.close()
        raise


def _exists(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def _read_into(copy: sqlite3.Connection, path: Path, how: str) -> None:
    place = f"{path.absolute().as_uri()}?{how}"
    with closing(sqlite3.connect(place, uri=True, timeout=BUSY_SECONDS)) as source:
        source.execute("BEGIN")
        source.execute("SELECT 1 FROM sqlite_master").fetchall()  # the copy itself waits for ever
        source.backup(copy)


def _prepared(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    _check(connection)
    _ensure_schema(connection, path)
    return connection


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        error = sqlite3.DatabaseError(verdict)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _ensure_schema(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection) < SCHEMA_VERSION:
        connection.execute("BEGIN IMMEDIATE")
        _upgrade(connection, _version(connection))  # asked again: others may have had the lock
        connection.execute("COMMIT")
    if (version := _version(connection)) != SCHEMA_VERSION:
        message = (
            f"the state file {path} has format {version}, this circumvent reads format"
            f" {SCHEMA_VERSION}: update circumvent or choose another --state-dir"
        )
        raise ConfigError(message, stage="state")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _upgrade(connection: sqlite3.Connection, version: int) -> None:
    for script in SCHEMAS[version:]:
        for statement in filter(str.strip, script.split(";")):
            connection.execute(statement)
    if version == 0:
        connection.execute("INSERT INTO salt VALUES (?)", (secrets.token_bytes(SALT_BYTES),))
    connection.execute(f"PRAGMA user_version = {max(version, SCHEMA_VERSION)}")


def _make_private(path: Path, warn: Warn) -> None:
    """Create the file before SQLite does: its journal takes over the mode."""
    if not make_private(path.parent):
        warn(f"others could write to {path.parent}, and maybe did: only you can from now on")
    # What others left there while they could may hang, lead elsewhere, or be read by them.
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
