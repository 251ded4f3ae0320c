"""Scores: how each server did on each network."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from circumvent.state.database import Database

MAX_SCORES = 1000  # networks times servers; the least recently used are dropped first
MEMORY = 16  # counts are halved above this sum, so that old results fade
NEWEST_WEIGHT = 0.3  # of the last round-trip time in the average
NETWORK_ID_BYTES = 8

SCHEMA = """
CREATE TABLE scores (
    network TEXT NOT NULL, server TEXT NOT NULL, successes INTEGER NOT NULL,
    failures INTEGER NOT NULL, ms REAL NOT NULL, user_failures INTEGER NOT NULL,
    last_ok REAL NOT NULL, touched REAL NOT NULL, PRIMARY KEY (network, server)
) STRICT;
"""
_ADD = """
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
_ON_NETWORK = """
SELECT server, successes, failures, ms, user_failures, last_ok FROM scores WHERE network = ?
"""
_WORKED = "SELECT DISTINCT server FROM scores WHERE last_ok > 0"
_TRIM = """
DELETE FROM scores WHERE rowid NOT IN (SELECT rowid FROM scores ORDER BY touched DESC LIMIT ?)
"""


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


class ScoreTable:
    """The scores of the most recently used networks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.trim_with(_TRIM, (MAX_SCORES,))

    def remember(self, network: str, server: str, *, ok: bool, ms: float, user_bytes: int) -> None:
        """Keep a result for the next flush; ``user_bytes`` is 0 for a dial or a probe."""
        is_user_failure = not ok and user_bytes > 0
        now = time.time()
        values = {
            "network": network,
            "server": server,
            "success": int(ok),
            "failure": int(not ok and not is_user_failure),
            "user": int(is_user_failure),
            "ms": ms if ok else 0.0,
            "ok_at": now if ok else 0.0,
            "at": now,
            "memory": MEMORY,
            "weight": NEWEST_WEIGHT,
        }
        self._database.buffer(_ADD, values)

    def on(self, network: str) -> dict[str, Score]:
        """Scores on this network by server id."""
        self._database.flush()
        rows = self._database.read(_ON_NETWORK, (network,))
        return {server: Score(*rest) for server, *rest in rows}

    def worked(self) -> frozenset[str]:
        """The ids of servers that ever worked, on any network."""
        self._database.flush()
        return frozenset(server for (server,) in self._database.read(_WORKED))

    def network_id(self, raw: bytes) -> str:
        """A salted hash: the file neither names a network nor lets anybody look one up."""
        salt = self._database.salt
        return hashlib.blake2b(raw, key=salt, digest_size=NETWORK_ID_BYTES).hexdigest()
