"""Bundles on web hosts: mirrors, web hosts behind a front, and subscriptions.

``https://HOST/PATH`` is a plain file. ``fronted+https://FRONT/PATH?host=HIDDEN`` connects to FRONT,
whose name a censor lets pass, and asks there for HIDDEN, which the same CDN serves;
``&front=OTHER`` names further fronts, ``&sni=none`` sends no name at all. The certificate must be
good for the front that is connected to. ``sub+https://…`` is fetched like a mirror.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlsplit

from msgspec.structs import replace

from circumvent.api import (
    Channel,
    ChannelError,
    Cost,
    Fetch,
    LinkError,
    TlsOptions,
    Verdict,
    hookimpl,
)
from circumvent.http.client import http_cost, web_tls
from circumvent.wire.bundle import MAX_BUNDLE
from circumvent.wire.host_port import parse_host
from circumvent_plugins.web_channels.download import MAX_LIST, Download, DownloadTimings

MAX_FRONTS = 4  # tried one after the other, each for its share of the time
COST = Cost(dial=http_cost(1).dial + 2 * MAX_BUNDLE, stream=0)  # a body, and the copy handed out


class WebChannel(Channel):
    """A channel that downloads a file; ``timings`` are those of one fetch."""

    cost = COST

    def __init__(self, timings: DownloadTimings | None = None) -> None:
        self._timings = timings or DownloadTimings()


class HttpsChannel(WebChannel):
    """Mirrors on any web host."""

    name = "https"
    schemes = ("https",)
    tier = 1

    def check(self, source: str) -> None:
        _check_url(source)

    async def fetch(self, fetch: Fetch) -> AsyncGenerator[bytes, None]:
        yield await Download(fetch, fetch.source, timings=self._timings).run()
        fetch.notes.clear()  # the bundle was refused: ask for it again, not for changes


class SubscriptionChannel(WebChannel):
    """Lists of links that are not signed; the user named them. They come in pieces."""

    name = "subscription"
    schemes = ("sub+https",)
    tier = 1

    def check(self, source: str) -> None:
        _check_url(source.removeprefix("sub+"))

    async def fetch(self, fetch: Fetch) -> AsyncGenerator[bytes, None]:
        url = fetch.source.removeprefix("sub+")
        download = Download(fetch, url, timings=self._timings, limit=MAX_LIST)
        async with aclosing(download.stream()) as pieces:
            async for piece in pieces:
                yield piece


class FrontedChannel(WebChannel):
    """Web hosts behind a front with another name."""

    name = "fronted"
    schemes = ("fronted+https",)
    tier = 2

    def check(self, source: str) -> None:
        _parse_fronted(source)

    async def fetch(self, fetch: Fetch) -> AsyncGenerator[bytes, None]:
        fronted = _parse_fronted(fetch.source)
        tls = web_tls if fronted.sends_name else _tls_without_name
        timings = replace(self._timings, whole=self._timings.whole / len(fronted.urls))
        failure: ChannelError | None = None
        for url in fronted.urls:
            try:
                body = await Download(fetch, url, fronted.host, tls, timings).run()
            except ChannelError as error:
                if failure is None or failure.verdict is not Verdict.UNCHANGED:
                    failure = error  # any front can say that nothing is newer
            else:
                yield body
                fetch.notes.clear()  # as above
        if failure is not None:
            raise failure


@dataclass(frozen=True, slots=True)
class _Fronted:
    """The URL at each front, the hidden host, and whether the front's name is sent."""

    urls: list[str]
    host: str
    sends_name: bool


def _parse_fronted(source: str) -> _Fronted:
    """Raises LinkError."""
    parts = _check_url(source.removeprefix("fronted+"))
    fields: dict[str, list[str]] = {"host": [], "front": [], "sni": []}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in fields:
            raise LinkError("fronted: takes host=, front= and sni=none only; remove the rest")
        fields[key].append(value)
    if len(fields["host"]) != 1:
        raise LinkError("fronted: names no hidden host, or two; write ?host=HIDDEN")
    if fields["sni"] not in ([], ["none"]):
        raise LinkError("fronted: sni= can only be none; leave it out to send the front's name")
    fronts = [parts.netloc, *fields["front"]]
    if len(fronts) > MAX_FRONTS:
        raise LinkError(f"fronted: names more than {MAX_FRONTS} fronts")
    urls = [_check_url(f"https://{front}{parts.path}").geturl() for front in fronts]
    return _Fronted(urls, parse_host(fields["host"][0]), sends_name=not fields["sni"])


def _check_url(url: str) -> SplitResult:
    """The parts of a URL that can be fetched; raises LinkError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a port or brackets that are none
        raise _no_url() from None
    if parts.scheme != "https" or not parts.hostname or port == 0:
        raise _no_url()
    if "@" in parts.netloc or parts.fragment:
        raise LinkError("source: a user name or a '#' has no meaning here; remove it")
    parse_host(parts.hostname)
    return parts


def _no_url() -> LinkError:
    return LinkError("source: is not like https://HOST/PATH; correct it")


def _tls_without_name(host: str) -> TlsOptions:
    return TlsOptions(host, alpn=("http/1.1",), send_name=False)


@hookimpl
def circumvent_channels() -> Sequence[Channel]:
    """Offer web hosts."""
    return (HttpsChannel(), SubscriptionChannel(), FrontedChannel())
