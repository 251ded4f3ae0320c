"""The database of the process: buffered writes, reads, and what happens when the file breaks."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from circumvent.errors import ConfigError
from circumvent.state.file import Need, StateFile, is_corruption

SALT = "CREATE TABLE salt (value BLOB NOT NULL); INSERT INTO salt VALUES (randomblob(32));"
MAX_BUFFERED = 2000  # statements that wait for a locked file or a full disk
_MS = 1000

Values = Sequence[object] | Mapping[str, object]  # the parameters of a statement


class Database:
    """One open state file.

    Where the file cannot be written, the user is told once and the process goes on; with
    ``Need.WRITING`` that raises ConfigError instead. ``salt`` is random and belongs to the file.
    """

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self._buffered: deque[tuple[str, Values]] = deque(maxlen=MAX_BUFFERED)
        self._trims: list[tuple[str, Values]] = []
        self._is_troubled = False
        self._connect()

    def trim_with(self, statement: str, values: Values = ()) -> None:
        """Run this at the end of each ``flush`` that writes: it keeps a table small."""
        self._trims.append((statement, values))

    def buffer(self, statement: str, values: Values) -> None:
        """Keep a statement for the next ``flush``."""
        self._buffered.append((statement, values))

    def flush(self) -> None:
        """Write what is buffered, in one transaction.

        On a full disk or a locked file the newest part stays buffered and the user is told once.
        """
        if not self._buffered:
            return
        try:
            with self._transaction():
                for statement, values in (*self._buffered, *self._trims):
                    self._connection.execute(statement, values)
        except sqlite3.Error as error:
            self._survive(error)
        else:
            self._buffered.clear()
            self._set_troubled(on=False)

    def read(self, query: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """The rows; none when the file is broken."""
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._survive(error)
            return []

    def write(self, *statements: tuple[str, Values]) -> list[int]:
        """Execute all statements or none; how many rows each changed, or nothing if none was."""
        try:
            with self._transaction():
                return [
                    self._connection.execute(statement, values).rowcount
                    for statement, values in statements
                ]
        except sqlite3.Error as error:
            self._survive(error)
            return []

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._connection.close()

    def _connect(self) -> None:
        self._connection = self._file.open()
        (salt,) = self._connection.execute("SELECT value FROM salt").fetchone()
        self.salt = bytes(salt)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _survive(self, error: sqlite3.Error) -> None:
        file = self._file
        if is_corruption(error):
            self._connection.close()
            with suppress(OSError):  # where the file cannot be renamed, memory takes its place
                file.set_aside()
            self._connect()
        if file.need is Need.WRITING:
            raise ConfigError(
                f"the state file {file.path} cannot be used: {error}; nothing was changed",
                stage="state",
            ) from error
        if not is_corruption(error) and not self._is_troubled:
            self._set_troubled(on=True)
            file.warn(f"the state file {file.path} could not be written: {error}")

    def _set_troubled(self, *, on: bool) -> None:
        """The event loop waits once for a lock; until it is free, statements do not wait again."""
        if on is not self._is_troubled:
            self._is_troubled = on
            seconds = 0.0 if on else self._file.busy_seconds
            self._connection.execute(f"PRAGMA busy_timeout = {int(seconds * _MS)}")
