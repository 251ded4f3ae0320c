"""The store: the tables of the state file."""

from __future__ import annotations

import logging
from pathlib import Path

from circumvent.state import attempts, certificates, origins, scores, servers
from circumvent.state.database import SALT, Database
from circumvent.state.file import BUSY_SECONDS, Need, StateFile, Warn

# One script for each version of the file.
SCHEMAS = (
    SALT + servers.SCHEMA + attempts.SCHEMA + scores.SCHEMA,
    origins.SCHEMA,
    certificates.SCHEMA,
    origins.PACKED_LISTS,
)

_log = logging.getLogger("circumvent.state")


class Store:
    """One SQLite file; what was flushed survives ``kill -9``.

    Attempts and scores are only buffered. Where the file cannot be written the store lives in
    memory, and ``warn`` is told. Raises ConfigError where not even what is needed can be done; with
    ``Need.WRITING`` also whenever something cannot be written.
    """

    def __init__(
        self,
        path: Path,
        warn: Warn = _log.warning,
        need: Need = Need.NOTHING,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self._database = Database(StateFile(path, SCHEMAS, warn, need, busy_seconds))
        self.attempts = attempts.AttemptTable(self._database)
        self.scores = scores.ScoreTable(self._database)
        self.servers = servers.ServerTable(self._database)
        self.certificates = certificates.CertificateTable(self._database)
        self.origins = origins.OriginTable(self._database)

    def flush(self) -> None:
        """Write what is buffered, in one transaction; trouble is only told."""
        self._database.flush()

    def close(self) -> None:
        """Flush and close."""
        self._database.close()
