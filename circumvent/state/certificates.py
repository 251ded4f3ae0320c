"""Keys of servers that nobody vouches for, as each showed it when it first worked."""

from __future__ import annotations

import time
from collections.abc import Iterable

from circumvent.state.database import Database

MAX_CERTIFICATES = 5000  # some 100 bytes each; of more, the first are forgotten

SCHEMA = """
CREATE TABLE certificates (
    number INTEGER PRIMARY KEY, server TEXT UNIQUE NOT NULL, key_sha256 BLOB NOT NULL,
    refused_at REAL NOT NULL
) STRICT;
"""
_KEEP = """
INSERT INTO certificates (server, key_sha256, refused_at) VALUES (:server, :key, 0)
ON CONFLICT DO UPDATE SET refused_at = iif(key_sha256 = :key, 0, refused_at)
"""
_KEY_OF = "SELECT key_sha256 FROM certificates WHERE server = ?"
_REFUSE = "UPDATE certificates SET refused_at = ? WHERE server = ?"
_REFUSED = "SELECT server FROM certificates WHERE refused_at > 0 ORDER BY number"
_FORGET = "DELETE FROM certificates WHERE server = ?"
_TRIM = "DELETE FROM certificates WHERE number <= (SELECT max(number) FROM certificates) - ?"


def changed(server: str) -> str:
    """What to tell the user about this server; an attempt keeps all of it."""
    return (
        "its certificate is not that of its first use: somebody may be in between. If its operator"
        f" renewed it, accept it with: circumvent servers forget-certificate {server}"
    )


class CertificateTable:
    """The remembered keys by the server's id: SHA-256 digests of the SubjectPublicKeyInfo."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def key_of(self, server: str) -> bytes:
        """The key that this server must show; empty where none is remembered."""
        rows = self._database.read(_KEY_OF, (server,))
        return bytes(rows[0][0]) if rows else b""

    def keep(self, server: str, key: bytes) -> bytes:
        """Remember ``key``, at once, unless one is remembered; the one that counts now."""
        self._database.write((_KEEP, {"server": server, "key": key}), (_TRIM, (MAX_CERTIFICATES,)))
        return self.key_of(server) or key

    def refuse(self, server: str) -> None:
        """Note that it showed another key; ``keep`` with the right one takes that back."""
        self._database.write((_REFUSE, (time.time(), server)))

    @property
    def warnings(self) -> list[str]:
        """One for each server that last showed another key than the one that is remembered."""
        return [f"{server}: {changed(server)}" for (server,) in self._database.read(_REFUSED)]

    def forget(self, servers: Iterable[str]) -> dict[str, bool]:
        """Accept whatever key each shows next; False for those of which none was remembered."""
        servers = tuple(servers)
        counts = self._database.write(*((_FORGET, (server,)) for server in servers))
        return {server: count > 0 for server, count in zip(servers, counts, strict=False)}
