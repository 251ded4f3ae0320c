"""What is remembered of origins between runs, in the state file.

Versions and trusted keys must outlive a restart: else an old bundle could be replayed to a
client that has just been started.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import msgspec

from circumvent.discovery.origins import Origin, parse_origin
from circumvent.errors import LinkError
from circumvent.state.store import Store
from circumvent.wire.bundle import Bundle, Trust

_log = logging.getLogger("circumvent.store")

MAX_NOTES = 2048  # bytes of one source's notes; an ETag and the like


class OriginTable:
    """Origins and notes in the store's file; what cannot be written is only told."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def saved(self) -> list[Origin]:
        """The origins that the user saved, with the newest that they said."""
        rows = self._store.read("SELECT link FROM origins WHERE saved ORDER BY rowid")
        origins = []
        for (link,) in rows:
            try:
                origins.append(self.recall(parse_origin(link)))
            except LinkError as error:
                _log.warning("a saved invite cannot be read any more: %s", error)
        return origins

    def recall(self, origin: Origin) -> Origin:
        """The origin with all that is remembered of it."""
        rows = self._store.read(
            "SELECT saved, trust, bundle, fetched FROM origins WHERE id = ?", (origin.id,)
        )
        for saved, trust, bundle, fetched in rows:
            try:
                return replace(
                    origin,
                    saved=bool(saved),
                    trust=msgspec.json.decode(trust, type=Trust | None),
                    bundle=msgspec.json.decode(bundle, type=Bundle | None),
                    fetched=fetched,
                )
            except ValueError:  # of msgspec, of JSON, or of the values themselves
                _log.warning("what an invite brought cannot be read any more; it is asked anew")
        return origin

    def keep(self, origin: Origin) -> None:
        """Remember the origin as it is; never an older version over a newer one."""
        row = {
            "id": origin.id,
            "link": origin.link,
            "saved": origin.saved,
            "trust": msgspec.json.encode(origin.trust),
            "version": origin.bundle.version if origin.bundle else 0,
            "bundle": msgspec.json.encode(origin.bundle),
            "fetched": origin.fetched,
        }
        self._store.write(
            "INSERT INTO origins VALUES (:id, :link, :saved, :trust, :version, :bundle, :fetched)"
            " ON CONFLICT DO UPDATE SET (link, saved, trust, version, bundle, fetched) ="
            " (:link, saved OR :saved, :trust, :version, :bundle, :fetched)"
            " WHERE :version >= version",
            row,
        )

    def forget(self, origin_id: str) -> bool:
        """Forget an origin and all that it said; False when there was none."""
        known = bool(self._store.read("SELECT 1 FROM origins WHERE id = ?", (origin_id,)))
        self._store.write("DELETE FROM origins WHERE id = ?", (origin_id,))
        self._store.write("DELETE FROM notes WHERE origin = ?", (origin_id,))
        return known

    def notes(self, origin: Origin, source: str) -> dict[str, str]:
        """What a channel noted of a source of this origin."""
        rows = self._store.read(
            "SELECT notes FROM notes WHERE origin = ? AND source = ?", (origin.id, source)
        )
        return msgspec.json.decode(rows[0][0], type=dict[str, str]) if rows else {}

    def note(self, origin: Origin, source: str, notes: dict[str, str]) -> None:
        """Keep a channel's notes, if they are small."""
        text = msgspec.json.encode(notes).decode()
        if len(text) <= MAX_NOTES:
            self._store.write(
                "INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (origin.id, source, text)
            )
