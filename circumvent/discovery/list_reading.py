"""Reads a subscription as it comes, and keeps of it what can be used, packed.

What cannot be used is dropped link by link, before any bound counts. The bound is memory: a list
may take a share of the budget, and what has no room is counted and told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from circumvent.api import Transport
from circumvent.discovery.origins import Origin
from circumvent.errors import LinkError, UnsupportedError
from circumvent.links.list_reader import ListReader
from circumvent.memory import Account
from circumvent.texts import TextDecoder
from circumvent.tunnels.candidate import parse_candidate
from circumvent.tunnels.refused import describe_refused
from circumvent.wire.server_list import Packer, ServerList

SUBSCRIPTION_DAYS = 7  # its links are used so long when nothing newer comes
_DAY = 24 * 3600
_HEAD = 1000  # characters by which a web page is known
_HTML = re.compile(r"\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
_LINK = re.compile(r"[a-z][a-z0-9+.-]{0,15}://\S+", re.IGNORECASE)
_NOT_SERVERS = ("http://", "https://", "circumvent://", "sub+https://")


class ListReading:
    """The list of a subscription on its way in; ``now`` is unix seconds.

    Close it: what it was charged is given back then.
    """

    def __init__(
        self, origin: Origin, now: float, transports: Mapping[str, Transport], account: Account
    ) -> None:
        self._origin = origin
        self._now = int(now)
        self._transports = transports
        self._account = account
        self._decoder = TextDecoder()
        self._reader = ListReader()
        self._packer = Packer()
        self._ids: set[str] = set()
        self._charged = 0
        self._has_room = True
        self._links = 0
        self._homeless = 0
        self._refused: Counter[str] = Counter()
        self._head = ""

    @property
    def count(self) -> int:
        """How many servers can be used, each once."""
        return len(self._ids)

    def take(self, data: bytes) -> None:
        """Read one more piece; raises LinkError when it is no list at all."""
        text = self._decoder.decode(data)
        self._head += text[: _HEAD - len(self._head)]
        for _, link in self._reader.feed(text):
            self._add(link)

    def end(self) -> None:
        """No more pieces come; raises as ``take``."""
        for _, link in self._reader.feed(self._decoder.decode(b"", is_last=True)):
            self._add(link)
        for _, link in self._reader.finish():
            self._add(link)

    @property
    def is_worth_it(self) -> bool:
        """Whether a list that ended too early is of use: it has no fewer servers than before."""
        known = self._origin.bundle
        return 0 < self.count >= (known.count if known else 0)

    def finish(self) -> ServerList:
        """All servers that came; raises LinkError, which says why, when there are none."""
        if not self._ids:
            raise LinkError(f"subscription: {self._why_nothing()}")
        version = (
            self._origin.version + 1
        )  # the last one fetched is the newest, whatever time it is
        return self._packer.finish(version, self._now, self._now + SUBSCRIPTION_DAYS * _DAY)

    def complaint(self) -> str:
        """One line about what is not used, and why; empty when everything is."""
        told = describe_refused(self._refused, self._links)
        if self._homeless:
            room = f"{self._homeless} more have no room in memory: give more with --memory"
            told = f"{told}; {room}" if told else room
        return told

    def close(self) -> None:
        """Give back what was charged."""
        self._account.discharge(self._charged)
        self._charged = 0

    def _add(self, link: str) -> None:
        if not _LINK.match(link) or link.lower().startswith(_NOT_SERVERS):
            return  # lists hold remarks
        self._links += 1
        try:
            server = parse_candidate(link, self._transports, is_learnt=True)
        except (LinkError, UnsupportedError) as error:
            self._refused[str(error)] += 1
            return
        if server.id in self._ids:
            return
        if not self._has_room:
            self._homeless += 1
            return
        self._ids.add(server.id)
        self._packer.add(server.id, server.privacy, server.entry.link)
        more = self._packer.size - self._charged
        self._has_room = self._account.try_charge(more)
        self._charged += more * self._has_room

    def _why_nothing(self) -> str:
        if self._refused:
            return describe_refused(self._refused, self._links)
        if _HTML.match(self._head):
            return "a web page came instead of a list of links"
        return "holds no share links of a form that is known"
