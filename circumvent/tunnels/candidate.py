"""A candidate: a server that can be tried, and the transport that reaches it."""

from __future__ import annotations

from dataclasses import dataclass

from circumvent.api import Privacy, ServerEntry, Transport


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server that can be tried, and how; ``is_learnt``: not from the user, but from a list."""

    entry: ServerEntry
    transport: Transport
    is_learnt: bool = False

    @property
    def id(self) -> str:
        """The entry's id."""
        return self.entry.id

    @property
    def privacy(self) -> Privacy:
        """What a watcher of the connection to this server can see."""
        return self.transport.privacy(self.entry)
