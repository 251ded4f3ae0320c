"""Server entries of transports whose links have the common form."""

from __future__ import annotations

from circumvent.api import ServerEntry
from circumvent.links.uri import ShareLink, format_link


def link_entry(transport: str, link: ShareLink, settings: object) -> ServerEntry:
    """The entry behind ``link``, which is in its canonical form."""
    return ServerEntry(
        transport=transport,
        host=link.host,
        port=link.port,
        name=link.name,
        link=format_link(link),
        settings=settings,
    )
