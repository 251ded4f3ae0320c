"""Origins: where servers come from. An authority signs bundles; a subscription is not signed.

A subscription is a list of plain share links. It is used only because the user named it, and it
never names other sources.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from circumvent.errors import LinkError
from circumvent.links.invite import is_invite, parse_invite
from circumvent.links.pasted import unwrap
from circumvent.links.subscription import parse_subscription
from circumvent.state.origins import OriginRow, OriginTable
from circumvent.wire.bundle import Bundle, Trust, open_bundle

SUBSCRIPTION = "sub+https://"
SUBSCRIPTION_DAYS = 7  # its links are used so long when nothing newer comes
LOCAL = "file:"
_DAY = 24 * 3600

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """One authority or subscription, and its newest bundle.

    ``trust`` is None for a subscription. ``fetched`` is unix seconds, 0 for never.
    """

    id: str
    link: str = field(repr=False)
    trust: Trust | None
    first_sources: tuple[str, ...]
    bucket: bytes | None = field(default=None, repr=False)
    name: str = ""
    saved: bool = False
    bundle: Bundle | None = None
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

    def entries(self, now: float) -> tuple[str, ...]:
        """The links that may be used now."""
        return self.bundle.entries if self.bundle and now < self.bundle.expires else ()

    def examine(self, data: bytes, now: float) -> Bundle:
        """Verify the bundle in ``data``; raises BundleError, for a subscription LinkError."""
        newest = self.bundle.version if self.bundle else 0
        if self.trust is None:
            return Bundle(
                version=newest + 1,  # the last one fetched is the newest, whatever the clock says
                issued=int(now),
                expires=int(now) + SUBSCRIPTION_DAYS * _DAY,
                entries=parse_subscription(data),
            )
        return open_bundle(data, self.trust, self.bucket, now, newest)

    def learn(self, bundle: Bundle, now: float) -> Origin:
        """The origin after a bundle that was examined."""
        return replace(self, bundle=bundle, fetched=now, trust=bundle.next_trust or self.trust)


def is_origin(text: str) -> bool:
    """Whether ``text`` looks like an invite or a subscription and not like a server's link."""
    text = unwrap(text)
    return is_invite(text) or text.lower().startswith(SUBSCRIPTION)


def parse_origin(text: str) -> Origin:
    """Read an invite or the URL of a subscription; raises LinkError."""
    text = unwrap(text)
    if is_invite(text):
        invite = parse_invite(text)
        return Origin(invite.id, text, invite.trust, invite.sources, invite.bucket, invite.name)
    if not is_origin(text):
        raise LinkError(f'origin: is neither an invite nor a subscription ("{SUBSCRIPTION}...")')
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Origin(digest, text, None, (text,))


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
