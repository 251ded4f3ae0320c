"""Opens the SQLite file that outlives ``kill -9``; a corrupted one is set aside and rebuilt."""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

from circumvent.errors import ConfigError

BUSY_SECONDS = 0.5  # another command may hold the file; the event loop cannot wait for long
CACHE_KIB = 256  # the file is small; SQLite's own default is 2 MB
SALT_BYTES = 32
FILE_MODE = 0o600  # the links inside are secrets
DIRECTORY_MODE = 0o700
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

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


def open_database(path: Path, warn: Warn) -> sqlite3.Connection:
    """Open or create the file; raises ConfigError when the place cannot be used."""
    try:
        _make_private(path, warn)
        return _open_or_rebuild(path, warn)
    except (OSError, sqlite3.OperationalError) as error:
        message = f"the state file {path} cannot be used: {error}; choose another --state-dir"
        raise ConfigError(message, stage="state") from error


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
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        _check(connection)
        _ensure_schema(connection, path)
    except BaseException:
        connection.close()
        raise
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
    if not claim_directory(path.parent):
        warn(f"others could write to {path.parent}, and maybe did: only you can from now on")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    os.close(descriptor)
    path.chmod(FILE_MODE)


def claim_directory(directory: Path) -> bool:
    """Create it, or shut others out; whether nobody else could write there before.

    Whoever can write there can put another file in the place of ours. Raises OSError, also when
    that cannot be helped.
    """
    directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid not in {os.geteuid(), 0}:
        raise PermissionError("its directory belongs to another user")
    if not found.st_mode & _WRITABLE_BY_OTHERS:
        return True
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
        raise PermissionError("others can write to its directory")
    directory.chmod(DIRECTORY_MODE)
    return False
