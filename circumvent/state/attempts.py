"""Attempts: the records of every dial, handshake, probe, fetch and stream, and their table."""

from __future__ import annotations

import errno as errno_codes
from dataclasses import astuple, dataclass, replace

from circumvent.errors import CircumventError
from circumvent.net.clock import SYSTEM_CLOCK, Clock
from circumvent.state.database import Database

MAX_ATTEMPTS = 1000  # enough to explain a bad evening, and a file below 1 MB
MAX_DETAIL = 200  # characters of an attempt's text

SCHEMA = """
CREATE TABLE attempts (
    number INTEGER PRIMARY KEY, at REAL NOT NULL, what TEXT NOT NULL, server TEXT NOT NULL,
    stage TEXT NOT NULL, outcome TEXT NOT NULL, errno INTEGER, ms REAL NOT NULL,
    peak INTEGER NOT NULL, detail TEXT NOT NULL
) STRICT;
"""
_ADD = """
INSERT INTO attempts (at, what, server, stage, outcome, errno, ms, peak, detail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_NEWEST = """
SELECT at, what, server, stage, outcome, errno, ms, peak, detail FROM attempts
WHERE (:server IS NULL OR server = :server)
AND (NOT :failures OR outcome IN ('failed', 'timeout'))
ORDER BY number DESC LIMIT :limit
"""
_TRIM = "DELETE FROM attempts WHERE number <= (SELECT max(number) FROM attempts) - ?"
_MS = 1000


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing that was tried, without secrets and without visited hosts.

    ``at`` is in unix seconds, ``what`` is "race", "probe", "stream" or "fetch",
    ``server`` is an entry's id, ``stage`` names the step that was reached, ``outcome`` is "ok",
    "failed", "cancelled" or "timeout", ``ms`` is how long it took, ``peak`` is the most memory
    it held (bytes), ``detail`` is a short text for the user.
    """

    at: float
    what: str
    server: str
    stage: str
    outcome: str
    errno: int | None = None
    ms: float = 0.0
    peak: int = 0
    detail: str = ""

    @property
    def errno_name(self) -> str:
        """The symbolic name of ``errno``, or an empty string."""
        return errno_codes.errorcode.get(self.errno, "") if self.errno else ""


def attempt_record(  # noqa: PLR0913 - as many as there are facts
    what: str,
    server: str,
    started: float,
    peak: int,
    error: BaseException | None = None,
    *,
    clock: Clock = SYSTEM_CLOCK,
) -> Attempt:
    """The record of what began at ``started`` (``clock.now``) and ends now.

    An ``error`` that is none of ours is a cancellation.
    """
    known = error if isinstance(error, CircumventError) else None
    return Attempt(
        at=clock.wall(),
        what=what,
        server=server,
        stage=known.stage if known else "" if error else "probe",
        outcome="failed" if known else "cancelled" if error else "ok",
        errno=known.errno if known else None,
        ms=(clock.now() - started) * _MS,
        peak=peak,
        detail=str(known) if known else "",
    )


class AttemptTable:
    """The newest attempts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.trim_with(_TRIM, (MAX_ATTEMPTS,))

    def record(self, attempt: Attempt) -> None:
        """Keep an attempt for the next flush."""
        short = replace(attempt, detail=attempt.detail[:MAX_DETAIL])
        self._database.buffer(_ADD, astuple(short))

    def newest(
        self, limit: int, server: str | None = None, *, failures: bool = False
    ) -> list[Attempt]:
        """The newest attempts, newest first; of one server or only the failed ones if asked."""
        self._database.flush()
        values = {"server": server, "failures": failures, "limit": limit}
        return [Attempt(*row) for row in self._database.read(_NEWEST, values)]
