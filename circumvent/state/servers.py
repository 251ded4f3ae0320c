"""Servers that the user saved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, field

from circumvent.state.database import Database

SCHEMA = """
CREATE TABLE servers (
    id TEXT PRIMARY KEY, transport TEXT NOT NULL, name TEXT NOT NULL, link TEXT NOT NULL
) STRICT;
"""
_ADD = "INSERT OR REPLACE INTO servers (id, transport, name, link) VALUES (?, ?, ?, ?)"
_REMOVE = "DELETE FROM servers WHERE id = ?"
_ALL = "SELECT id, transport, name, link FROM servers ORDER BY rowid"


@dataclass(frozen=True, slots=True)
class SavedServer:
    """A server that the user added; ``link`` is secret and not in ``repr``."""

    id: str
    transport: str
    name: str
    link: str = field(repr=False)


class ServerTable:
    """The saved servers, written at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, servers: Iterable[SavedServer]) -> None:
        """Save all of them or none; the same id again replaces a server."""
        self._database.write(*((_ADD, astuple(server)) for server in servers))

    def remove(self, ids: Iterable[str]) -> dict[str, bool]:
        """Remove all of them or none; False for each that was not saved."""
        ids = tuple(ids)
        counts = self._database.write(*((_REMOVE, (server_id,)) for server_id in ids))
        return {server_id: count > 0 for server_id, count in zip(ids, counts, strict=False)}

    def all(self) -> list[SavedServer]:
        """Saved servers in the order in which they were added."""
        return [SavedServer(*row) for row in self._database.read(_ALL)]
