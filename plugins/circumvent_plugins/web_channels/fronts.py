"""Fronts: TLS with a name that nobody blocks, and inside it a request for a hidden host."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from urllib.parse import urlsplit

from circumvent.api import Channel, ChannelError, Cost, Fetch, TlsOptions, Verdict
from circumvent.api.http import http_client, http_cost
from circumvent.wire.bundle import MAX_BUNDLE
from circumvent_plugins.web_channels.download import Download
from circumvent_plugins.web_channels.mirrors import ETAG, HEADERS
from circumvent_plugins.web_channels.places import Fronted, parse_fronted
from circumvent_plugins.web_channels.verdicts import front_refusal

FRONT_SECONDS = 6.0


class FrontedChannel(Channel):
    """A CDN that serves the front and the hidden host alike; fronts are tried one by one."""

    name = "fronted"
    schemes = ("fronted+https",)
    cost = Cost(dial=http_cost(1).dial + 2 * MAX_BUNDLE, stream=0)
    tier = 2

    def check(self, source: str) -> None:
        parse_fronted(source)

    async def fetch(self, fetch: Fetch) -> AsyncGenerator[bytes, None]:
        place = parse_fronted(fetch.source)
        failures = []
        for url in place.urls:
            try:
                download = await _ask(url, place, fetch)
            except ChannelError as error:
                if error.verdict is Verdict.UNCHANGED:
                    raise
                failures.append((urlsplit(url).hostname or "", error))
            else:
                fetch.notes[ETAG] = download.new_etag
                yield bytes(download.body)
                fetch.notes.pop(ETAG, None)  # it was no good, and must not count as known
        if len(failures) == len(place.urls):
            raise _joined(failures)


async def _ask(url: str, place: Fronted, fetch: Fetch) -> Download:
    """Each front is verified by its own name, sent or not. Raises ChannelError."""

    def tls(host: str) -> TlsOptions:
        return TlsOptions(host, alpn=("http/1.1",), send_name=place.send_name)

    headers = {**HEADERS, "Host": place.hidden}
    async with http_client(fetch.dialer, fetch.account, tls=tls, headers=headers) as session:
        download = Download(
            session,
            url,
            MAX_BUNDLE,
            etag=fetch.notes.get(ETAG, ""),
            may_redirect=False,
            refusal=front_refusal,
            seconds=FRONT_SECONDS,
        )
        await download.run()
    return download


def _joined(failures: Sequence[tuple[str, ChannelError]]) -> ChannelError:
    """One error that says how each front failed; the first gives the verdict."""
    if len(failures) == 1:
        return failures[0][1]
    texts = "; ".join(f"{front}: {error}" for front, error in failures)
    return ChannelError(failures[0][1].verdict, texts)
