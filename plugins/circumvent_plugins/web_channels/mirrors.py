"""Mirrors on the web, and subscriptions: one file behind an ``https://`` URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from circumvent.api import Channel, Cost, Fetch
from circumvent.api.http import http_client, http_cost
from circumvent.wire.bundle import MAX_BUNDLE, MAX_PAYLOAD
from circumvent_plugins.web_channels.download import Download
from circumvent_plugins.web_channels.places import parse_place

# Some web hosts refuse whoever gives no name; only the host itself sees this one.
HEADERS = {"User-Agent": "Mozilla/5.0"}
ETAG = "etag"


class HttpsChannel(Channel):
    """A file on any web host; mirrors are several sources."""

    name = "https"
    schemes = ("https",)
    cost = Cost(dial=http_cost(1).dial + 2 * MAX_BUNDLE, stream=0)
    tier = 1

    def check(self, source: str) -> None:
        parse_place(source, self.name)

    async def fetch(self, fetch: Fetch) -> AsyncGenerator[bytes, None]:
        url = parse_place(fetch.source, self.name)
        async for body in fetch_page(url, MAX_BUNDLE, fetch):
            yield body


class SubscriptionChannel(Channel):
    """A list of share links that nobody signed: the caller knows whether the user named it."""

    name = "subscription"
    schemes = ("sub+https",)
    cost = Cost(dial=http_cost(1).dial + 2 * MAX_PAYLOAD, stream=0)
    tier = 1

    def check(self, source: str) -> None:
        parse_place(source, self.schemes[0])

    async def fetch(self, fetch: Fetch) -> AsyncGenerator[bytes, None]:
        url = parse_place(fetch.source, self.schemes[0])
        async for body in fetch_page(url, MAX_PAYLOAD, fetch):
            yield body


async def fetch_page(url: str, limit: int, fetch: Fetch) -> AsyncGenerator[bytes, None]:
    """What is at ``url``, unless it is what ``fetch.notes`` know already."""
    async with http_client(fetch.dialer, fetch.account, headers=HEADERS) as session:
        download = Download(session, url, limit, etag=fetch.notes.get(ETAG, ""))
        body = await download.run()
    fetch.notes[ETAG] = download.new_etag
    yield body
    fetch.notes.pop(ETAG, None)  # asked for more: it was no good, and must not count as known
