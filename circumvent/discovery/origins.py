"""Origins: where servers come from. An authority signs bundles; a subscription is not signed.

A subscription is a list of plain share links. It is used only because the user named it, and it
never names other sources.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from circumvent.errors import BundleError, Fault, LinkError
from circumvent.links.invite import is_invite, parse_invite
from circumvent.links.pasted import unwrap
from circumvent.state.origins import OriginRow, OriginTable
from circumvent.wire.bundle import Bundle, Trust, open_bundle
from circumvent.wire.link_text import parse_name

if TYPE_CHECKING:
    from circumvent.wire.server_list import ServerList

WEB = "https://"
SUBSCRIPTION = "sub+" + WEB
LOCAL = "file:"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """One authority or subscription, and the newest that it said.

    A subscription has no ``trust``, and its ``bundle`` is a ``ServerList``. ``fetched`` is unix
    seconds, 0 for never.
    """

    id: str
    link: str = field(repr=False)
    trust: Trust | None
    first_sources: tuple[str, ...]
    bucket: bytes | None = field(default=None, repr=False)
    name: str = ""
    saved: bool = False
    bundle: Bundle | ServerList | None = None
    fetched: float = 0.0

    @property
    def typed_host(self) -> str:
        """The host of a subscription, which the user typed; empty for an invite."""
        return "" if self.trust is not None else urlsplit(self.link).hostname or ""

    @property
    def sources(self) -> tuple[str, ...]:
        """URLs to ask: those of the last bundle, then those of the invite.

        A bundle cannot name files of this machine; only the user can.
        """
        listed = self.bundle.sources if self.bundle else ()
        named = tuple(source for source in listed if not source.lower().startswith(LOCAL))
        return tuple(dict.fromkeys(named + self.first_sources))

    def is_missing(self, now: float) -> bool:
        """Whether it has no servers that may be used now."""
        return not (self.bundle and self.bundle.count and now < self.bundle.expires)

    @property
    def version(self) -> int:
        """That of the newest bundle; 0 when there is none."""
        return self.bundle.version if self.bundle else 0

    def examine(self, data: bytes, now: float) -> Bundle:
        """Verify the bundle in ``data``; raises BundleError. Of a subscription none is taken."""
        if self.trust is None:
            raise BundleError(Fault.WRONG_KEY)
        return open_bundle(data, self.trust, self.bucket, now, self.version)

    def learn(self, bundle: Bundle | ServerList, now: float) -> Origin:
        """The origin after a bundle that was examined."""
        return replace(self, bundle=bundle, fetched=now, trust=bundle.next_trust or self.trust)


def is_origin(text: str) -> bool:
    """Whether ``text`` looks like an invite or a subscription and not like a server's link."""
    text = unwrap(text)
    return is_invite(text) or text.lower().startswith(SUBSCRIPTION)


def as_subscription(text: str) -> str:
    """The address of a list as that of a subscription; any other text as it is.

    Without a path or a query, ``https://host:port`` is the link of an HTTPS proxy.
    """
    link = unwrap(text)
    if not link.lower().startswith(WEB):
        return text
    host, _, rest = link[len(WEB) :].partition("#")[0].replace("?", "/?", 1).partition("/")
    return f"sub+{link}" if rest and "@" not in host else text


def parse_origin(text: str) -> Origin:
    """Read an invite or the URL of a subscription; raises LinkError."""
    text = unwrap(as_subscription(text))
    if is_invite(text):
        invite = parse_invite(text)
        return Origin(invite.id, text, invite.trust, invite.sources, invite.bucket, invite.name)
    if not is_origin(text):
        raise LinkError("origin: is neither an invite nor the address of a list (https://...)")
    link, _, name = text.partition("#")
    digest = hashlib.sha256(link.encode()).hexdigest()[:16]
    return Origin(digest, text, None, (link,), name=parse_name(name))


def saved_origins(table: OriginTable) -> list[Origin]:
    """The origins that the user saved, with the newest that they said."""
    origins = []
    for link in table.saved_links():
        try:
            origins.append(recall(table, parse_origin(link)))
        except LinkError as error:
            _log.warning("a saved invite cannot be read any more: %s", error)
    return origins


def recall(table: OriginTable, origin: Origin) -> Origin:
    """The origin with all that is remembered of it."""
    row = table.find(origin.id)
    if row is None:
        return origin
    return replace(origin, saved=row.saved, trust=row.trust, bundle=row.bundle, fetched=row.fetched)


def keep(table: OriginTable, origin: Origin) -> None:
    """Remember the origin as it is."""
    table.keep(
        OriginRow(
            id=origin.id,
            link=origin.link,
            saved=origin.saved,
            trust=origin.trust,
            bundle=origin.bundle,
            fetched=origin.fetched,
        )
    )
