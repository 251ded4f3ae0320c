"""Origins: the newest bundle of each authority and subscription, and notes on their sources.

Versions and trusted keys must survive a restart: else a censor could replay an old bundle to a
client that has just started.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from circumvent.state.database import Database
from circumvent.wire.bundle import Bundle, Trust

if TYPE_CHECKING:
    from circumvent.wire.server_list import ServerList

MAX_NOTES = 2048  # bytes of one source's notes: an ETag and the like

SCHEMA = """
CREATE TABLE origins (
    id TEXT PRIMARY KEY, link TEXT NOT NULL, saved INTEGER NOT NULL, trust BLOB NOT NULL,
    version INTEGER NOT NULL, bundle BLOB NOT NULL, fetched REAL NOT NULL
) STRICT;
CREATE TABLE notes (
    origin TEXT NOT NULL, source TEXT NOT NULL, notes TEXT NOT NULL, PRIMARY KEY (origin, source)
) STRICT;
"""
# A subscription's list was a bundle once; it is fetched anew.
PACKED_LISTS = "UPDATE origins SET version = 0, bundle = 'null', fetched = 0 WHERE trust = 'null';"
_SAVED = "SELECT link FROM origins WHERE saved ORDER BY rowid"
_FIND = "SELECT link, saved, trust, bundle, fetched FROM origins WHERE id = ?"
_KEEP = """
INSERT INTO origins VALUES (:id, :link, :saved, :trust, :version, :bundle, :fetched)
ON CONFLICT DO UPDATE SET (link, saved, trust, version, bundle, fetched) =
    (:link, saved OR :saved, :trust, :version, :bundle, :fetched)
WHERE :version >= version
"""
_FORGET = "DELETE FROM origins WHERE id = ?"
_FORGET_NOTES = "DELETE FROM notes WHERE origin = ?"
_NOTES = "SELECT notes FROM notes WHERE origin = ? AND source = ?"
_NOTE = "INSERT OR REPLACE INTO notes VALUES (?, ?, ?)"

_log = logging.getLogger("circumvent.state")


@dataclass(frozen=True, slots=True)
class OriginRow:
    """One origin as the file keeps it; ``link`` is secret and not in ``repr``.

    ``saved``: the user wants it at every start. ``fetched`` is unix seconds, 0 for never.
    """

    id: str
    link: str = field(repr=False)
    saved: bool
    trust: Trust | None
    bundle: Bundle | ServerList | None
    fetched: float


class OriginTable:
    """Origins and notes, written at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def saved_links(self) -> list[str]:
        """The links of the saved origins, in the order in which they were saved."""
        return [link for (link,) in self._database.read(_SAVED)]

    def find(self, origin_id: str) -> OriginRow | None:
        """What is remembered of an origin; None when that is nothing, or unreadable."""
        for link, saved, trust, bundle, fetched in self._database.read(_FIND, (origin_id,)):
            try:
                keys = msgspec.json.decode(trust, type=Trust | None)
                return OriginRow(
                    id=origin_id,
                    link=link,
                    saved=bool(saved),
                    trust=keys,
                    bundle=_decode(bundle, is_signed=keys is not None),
                    fetched=fetched,
                )
            except ValueError:  # of msgspec, of JSON, or of the values themselves
                _log.warning("a remembered list cannot be read any more; it is fetched again")
        return None

    def keep(self, row: OriginRow) -> None:
        """Remember the origin; an older version never replaces a newer one."""
        values = {
            "id": row.id,
            "link": row.link,
            "saved": row.saved,
            "trust": msgspec.json.encode(row.trust),
            "version": row.bundle.version if row.bundle else 0,
            "bundle": _encode(row.bundle),
            "fetched": row.fetched,
        }
        self._database.write((_KEEP, values))

    def forget(self, origin_id: str) -> bool:
        """Forget an origin and all that it said; False when there was none."""
        forgotten = self._database.write((_FORGET, (origin_id,)), (_FORGET_NOTES, (origin_id,)))
        return bool(forgotten) and forgotten[0] > 0

    def notes(self, origin_id: str, source: str) -> dict[str, str]:
        """What a channel noted of a source of this origin."""
        rows = self._database.read(_NOTES, (origin_id, source))
        return msgspec.json.decode(rows[0][0], type=dict[str, str]) if rows else {}

    def note(self, origin_id: str, source: str, notes: dict[str, str]) -> None:
        """Keep a channel's notes, if they are small."""
        text = msgspec.json.encode(notes).decode()
        if len(text) <= MAX_NOTES:
            self._database.write((_NOTE, (origin_id, source, text)))


def _encode(bundle: Bundle | ServerList | None) -> bytes:
    """Lists are packed already: as JSON they would take a third more."""
    if bundle is None or isinstance(bundle, Bundle):
        return msgspec.json.encode(bundle)
    return msgspec.msgpack.encode(bundle)


def _decode(data: bytes, *, is_signed: bool) -> Bundle | ServerList | None:
    """Raises ValueError."""
    if is_signed or bytes(data) == b"null":
        return msgspec.json.decode(data, type=Bundle | None)
    from circumvent.wire.server_list import ServerList  # noqa: PLC0415 - few need it

    return msgspec.msgpack.decode(data, type=ServerList)
