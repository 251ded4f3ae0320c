"""What is remembered between runs: attempts, scores per network and saved servers."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from circumvent.errors import ConfigError
from circumvent.state.attempts import Attempt
from circumvent.state.database import (
    BUSY_SECONDS,
    Need,
    Warn,
    is_corruption,
    open_database,
    set_aside,
    wait_for_locks,
)

MAX_ATTEMPTS = 1000  # enough to explain a bad evening, and a file below 1 MB
MAX_SCORES = 1000  # networks times servers; the least recently used go first
MAX_DETAIL = 200  # characters of an attempt's text
MEMORY = 16  # counts are halved above this sum, so that old news fade
NEWEST_WEIGHT = 0.3  # of the last round-trip time in the average
NETWORK_ID_BYTES = 8

ADD_TO_SCORE = """
INSERT INTO scores VALUES (:network, :server, :success, :failure, :ms, :user, :ok_at, :at)
ON CONFLICT DO UPDATE SET
    (successes, failures, user_failures) = (
        SELECT (successes + :success) / fade, (failures + :failure) / fade,
               (user_failures + :user) / fade
        FROM (SELECT 1 + (successes + failures + user_failures >= :memory) AS fade)
    ),
    ms = CASE WHEN NOT :success THEN ms WHEN ms = 0 THEN :ms ELSE ms + :weight * (:ms - ms) END,
    last_ok = max(last_ok, :ok_at),
    touched = :at
"""

Values = Sequence[object] | Mapping[str, object]  # of a statement's parameters

_log = logging.getLogger("circumvent.store")


@dataclass(frozen=True, slots=True)
class Score:
    """How a server did on one network: ``ms`` is an average, ``last_ok`` unix seconds (0: never).

    ``failures`` counts dials and probes, ``user_failures`` cut or frozen user traffic: a censor
    may let probes pass and drop the rest.
    """

    successes: int
    failures: int
    ms: float
    user_failures: int
    last_ok: float


@dataclass(frozen=True, slots=True)
class SavedServer:
    """A server that the user added; ``link`` is secret and not in ``repr``."""

    id: str
    transport: str
    name: str
    link: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Result:
    network: str
    server: str
    ok: bool
    ms: float
    user_bytes: int
    at: float


class Store:
    """One SQLite file; what was flushed survives ``kill -9``.

    ``record`` and ``remember`` only buffer. Where the file cannot be written the store lives in
    memory, and ``warn`` is told. Raises ConfigError where not even what is needed can be done; with
    ``Need.WRITING`` also whenever something cannot be written.
    """

    def __init__(self, path: Path, warn: Warn = _log.warning, need: Need = Need.NOTHING) -> None:
        self._path = path
        self._warn = warn
        self._need = need
        self._attempts: deque[Attempt] = deque(maxlen=MAX_ATTEMPTS)
        self._results: deque[_Result] = deque(maxlen=MAX_ATTEMPTS)
        self._database = open_database(path, warn, need)
        self._is_troubled = False
        self._salt = self._read_salt()

    def record(self, attempt: Attempt) -> None:
        """Keep an attempt for the next ``flush``."""
        self._attempts.append(replace(attempt, detail=attempt.detail[:MAX_DETAIL]))

    def remember(self, network: str, server: str, *, ok: bool, ms: float, user_bytes: int) -> None:
        """Keep a result for the next ``flush``; ``user_bytes`` is 0 for a dial or a probe."""
        self._results.append(_Result(network, server, ok, ms, user_bytes, time.time()))

    def flush(self) -> None:
        """Write what was buffered, in one transaction.

        On a full disk or a locked file the newest part stays buffered and the user is told once.
        """
        if not self._attempts and not self._results:
            return
        try:
            self._write_buffered()
        except sqlite3.Error as error:
            self._survive(error)
        else:
            self._attempts.clear()
            self._results.clear()
            self._set_troubled(on=False)

    def attempts(
        self, limit: int, server: str | None = None, *, failures: bool = False
    ) -> list[Attempt]:
        """The newest attempts, newest first; of one server or only the failed ones if asked."""
        self.flush()
        rows = self.read(
            "SELECT at, what, server, stage, outcome, errno, ms, peak, detail FROM attempts"
            " WHERE (:server IS NULL OR server = :server)"
            " AND (NOT :failures OR outcome IN ('failed', 'timeout'))"
            " ORDER BY number DESC LIMIT :limit",
            {"server": server, "failures": failures, "limit": limit},
        )
        return [Attempt(*row) for row in rows]

    def scores(self, network: str) -> dict[str, Score]:
        """Scores on this network by server id."""
        self.flush()
        rows = self.read(
            "SELECT server, successes, failures, ms, user_failures, last_ok"
            " FROM scores WHERE network = ?",
            (network,),
        )
        return {server: Score(*rest) for server, *rest in rows}

    def network_id(self, raw: bytes) -> str:
        """A salted hash: the file never names a network, nor lets it be looked up."""
        return hashlib.blake2b(raw, key=self._salt, digest_size=NETWORK_ID_BYTES).hexdigest()

    def add_servers(self, servers: Iterable[SavedServer]) -> None:
        """Save all of them or none; the same id again replaces a server."""
        try:
            with self._transaction() as database:
                database.executemany(
                    "INSERT OR REPLACE INTO servers (id, transport, name, link)"
                    " VALUES (?, ?, ?, ?)",
                    map(astuple, servers),
                )
        except sqlite3.Error as error:
            self._survive(error)

    def remove_servers(self, ids: Iterable[str]) -> dict[str, bool]:
        """Forget all of them or none; False for each that there was not."""
        gone: dict[str, bool] = {}
        try:
            with self._transaction() as database:
                for server_id in ids:
                    found = database.execute("DELETE FROM servers WHERE id = ?", (server_id,))
                    gone[server_id] = found.rowcount > 0
        except sqlite3.Error as error:
            self._survive(error)
        return gone

    def servers(self) -> list[SavedServer]:
        """Saved servers in the order they were added."""
        rows = self.read("SELECT id, transport, name, link FROM servers ORDER BY rowid")
        return [SavedServer(*row) for row in rows]

    def read(self, query: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Rows of a table that another room keeps here; none when the file is broken."""
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._survive(error)
            return []

    def write(self, statement: str, values: Values = ()) -> None:
        """Change a table that another room keeps here, at once; trouble is only told."""
        try:
            with self._transaction() as database:
                database.execute(statement, values)
        except sqlite3.Error as error:
            self._survive(error)

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def _write_buffered(self) -> None:
        with self._transaction() as database:
            database.executemany(
                "INSERT INTO attempts (at, what, server, stage, outcome, errno, ms, peak, detail)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [astuple(attempt) for attempt in self._attempts],
            )
            for result in self._results:
                _add_to_score(database, result)
            _forget_oldest(database)

    def _survive(self, error: sqlite3.Error) -> None:
        if is_corruption(error):
            self._database.close()
            with suppress(OSError):  # where that cannot be, the store goes on in memory
                set_aside(self._path, self._warn)
            self._database = open_database(self._path, self._warn, self._need)
            self._salt = self._read_salt()
        if self._need is Need.WRITING:
            message = f"the state file {self._path} cannot be used: {error}; nothing was changed"
            raise ConfigError(message, stage="state") from error
        if not is_corruption(error) and not self._is_troubled:
            self._set_troubled(on=True)
            self._warn(f"the state file {self._path} could not be written: {error}")

    def _set_troubled(self, *, on: bool) -> None:
        """The event loop has waited once for who holds a lock: that must do until it is free."""
        if on is not self._is_troubled:
            self._is_troubled = on
            wait_for_locks(self._database, 0.0 if on else BUSY_SECONDS)

    def _read_salt(self) -> bytes:
        (salt,) = self._database.execute("SELECT value FROM salt").fetchone()
        return bytes(salt)


def _add_to_score(database: sqlite3.Connection, result: _Result) -> None:
    is_user_failure = not result.ok and result.user_bytes > 0
    values = {
        "network": result.network,
        "server": result.server,
        "success": int(result.ok),
        "failure": int(not result.ok and not is_user_failure),
        "user": int(is_user_failure),
        "ms": result.ms if result.ok else 0.0,
        "ok_at": result.at if result.ok else 0.0,
        "at": result.at,
    }
    database.execute(ADD_TO_SCORE, values | {"memory": MEMORY, "weight": NEWEST_WEIGHT})


def _forget_oldest(database: sqlite3.Connection) -> None:
    database.execute(
        "DELETE FROM attempts WHERE number <= (SELECT max(number) FROM attempts) - ?",
        (MAX_ATTEMPTS,),
    )
    database.execute(
        "DELETE FROM scores WHERE rowid NOT IN"
        " (SELECT rowid FROM scores ORDER BY touched DESC LIMIT ?)",
        (MAX_SCORES,),
    )
