"""Candidates: servers that can be tried. Link text becomes a candidate here and nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from circumvent.api import Privacy, ServerEntry, Transport
from circumvent.errors import LinkError, UnsupportedError
from circumvent.links.pasted import unwrap

MAX_SCHEME = 16  # a longer one is a misplaced secret, which no message may repeat


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server and the transport that reaches it.

    ``is_learnt``: a list named it, and not the user.
    """

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


def parse_candidate(
    text: str, transports: Mapping[str, Transport], *, is_learnt: bool = False
) -> Candidate:
    """The server behind a share link, as somebody pasted it; ``transports`` by link scheme.

    Raises LinkError, UnsupportedError.
    """
    link = unwrap(text)
    scheme, separator, _ = link.partition("://")
    if not separator or not scheme.isalnum() or len(scheme) > MAX_SCHEME:
        raise LinkError('is not a link: it must start like "ss://"; quote it in the shell')
    transport = transports.get(scheme.lower())
    if transport is None:
        known = ", ".join(f"{name}://" for name in sorted(transports))
        raise UnsupportedError(
            f"{scheme.lower()}:// is not supported; supported: {known or 'none'}", stage="link"
        )
    return Candidate(transport.parse(link), transport, is_learnt)


def classes_of(candidates: Iterable[Candidate]) -> Counter[Privacy]:
    """How many of them are of each privacy class."""
    return Counter(candidate.privacy for candidate in candidates)


def distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Each server once: of those with the same id, the first."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        found.setdefault(candidate.id, candidate)
    return list(found.values())
