"""One bounded download over HTTPS, resumed where it was cut, and what its failure means."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from circumvent.api import (
    ChannelError,
    CircumventError,
    DialError,
    Fetch,
    HandshakeError,
    ProtocolError,
    TlsOptions,
    Verdict,
)
from circumvent.api.http import http_client, limited_body, web_tls
from circumvent.wire.bundle import MAX_BUNDLE

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

MAX_REDIRECTS = 3  # a mirror that moved; more is a loop or a trap
MAX_RESUMES = 5  # a bundle is small: whoever cuts it more often wants it not to arrive
CUT_PAUSE = 0.2  # seconds before it is asked for again
HEADERS = {"User-Agent": "Mozilla/5.0", "Accept": "*/*"}  # some hosts refuse who sends none
ETAG = "etag"  # in the notes
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({404, 410})
_NETWORK_LOGIN = 511  # RFC 6585 §6
_HTML = re.compile(rb"\s*<(!doctype\s+html|html|head|body|script|meta)", re.IGNORECASE)
# What a CDN calls itself when it refuses a host that it does not serve.
_CDNS = ("cloudflare", "cloudfront", "akamai", "fastly", "varnish", "bunny", "azure", "ecs", "gse")


@dataclass
class Download:
    """One file at ``url``; ``host`` is asked for instead of the URL's where it is given."""

    request: Fetch
    url: str
    host: str = ""
    tls: Callable[[str], TlsOptions] = web_tls
    etag: str = ""
    got: bytearray = field(default_factory=bytearray)

    async def run(self) -> bytes:
        """The whole body; raises ChannelError."""
        from aiohttp import ClientError  # noqa: PLC0415 - 25 MB

        known = self.request.notes.get(ETAG, "")
        async with http_client(self.request.dialer, self.request.account, tls=self.tls) as session:
            for attempt in range(MAX_RESUMES + 1):
                before = len(self.got)
                try:
                    await self._follow(session, known)
                except (ClientError, CircumventError, ConnectionError) as error:
                    if isinstance(error, ChannelError):
                        raise
                    failure = explain(error)
                    # Only what moves on is worth another try.
                    if len(self.got) == before or attempt == MAX_RESUMES:
                        raise failure from error
                    await asyncio.sleep(CUT_PAUSE)
                else:
                    break
        self.request.notes[ETAG] = self.etag
        return bytes(self.got)

    async def _follow(self, session: ClientSession, known: str) -> None:
        url = self.url
        for _ in range(MAX_REDIRECTS + 1):
            async with session.get(
                url, headers=self._headers(known), allow_redirects=False
            ) as response:
                if response.status not in _REDIRECTS:
                    await self._take(response)
                    return
                url = _redirected(url, response.headers.get("Location", ""), hidden=self.host)
        raise ChannelError(Verdict.REFUSED, f"more than {MAX_REDIRECTS} redirects")

    def _headers(self, known: str) -> Mapping[str, str]:
        headers = dict(HEADERS)
        if self.host:
            headers["Host"] = self.host
        if self.got and self.etag:
            headers |= {"Range": f"bytes={len(self.got)}-", "If-Range": self.etag}
        elif known:
            headers["If-None-Match"] = known
        return headers

    async def _take(self, response: ClientResponse) -> None:
        _check_status(response)
        if not (response.status == 206 and self._continues(response)):  # noqa: PLR2004
            self.got.clear()
        self.etag = _strong(response.headers.get("ETag", ""))
        async for piece in limited_body(response, MAX_BUNDLE - len(self.got)):
            self.got += piece
            if _HTML.match(self.got):
                raise ChannelError(Verdict.PORTAL)

    def _continues(self, response: ClientResponse) -> bool:
        return response.headers.get("Content-Range", "").startswith(f"bytes {len(self.got)}-")


def explain(error: Exception) -> ChannelError:
    """What a failed request means to the user."""
    from aiohttp import ClientPayloadError, ServerDisconnectedError  # noqa: PLC0415 - 25 MB

    code = getattr(error, "errno", None)
    if isinstance(error, ProtocolError):
        return ChannelError(Verdict.TOO_LARGE, f"over {MAX_BUNDLE} bytes")
    if isinstance(error, HandshakeError):
        return ChannelError(Verdict.BLOCKED, str(error), errno=code)
    if isinstance(error, DialError):
        return ChannelError(Verdict.UNREACHABLE, str(error), errno=code)
    if isinstance(error, CircumventError):
        return ChannelError(Verdict.UNREACHABLE, str(error), errno=code)
    if isinstance(error, ClientPayloadError | ServerDisconnectedError | OSError):
        return ChannelError(Verdict.BLOCKED, "the answer was cut", errno=code)
    return ChannelError(Verdict.BROKEN, type(error).__name__)


def _check_status(response: ClientResponse) -> None:
    """Raise ChannelError unless a body comes that may be a bundle."""
    status = response.status
    if status in {200, 206}:
        return
    if status == 304:  # noqa: PLR2004 - RFC 9110 §15.4.5
        raise ChannelError(Verdict.UNCHANGED)
    if status == _NETWORK_LOGIN:
        raise ChannelError(Verdict.PORTAL)
    server = response.headers.get("Server", "").lower()
    who = next((f" from a server of {name}" for name in _CDNS if name in server), "")
    verdict = Verdict.NOT_FOUND if status in _GONE and not who else Verdict.REFUSED
    raise ChannelError(verdict, f"HTTP {status}{who}")


def _redirected(url: str, location: str, *, hidden: str) -> str:
    """Where to go on; HTTPS only, and behind a front only at the front itself."""
    target = urljoin(url, location)
    parts = urlsplit(target)
    if not location or parts.scheme != "https" or not parts.hostname:
        raise ChannelError(Verdict.PORTAL, "it redirects to a page without TLS")
    if hidden and parts.hostname not in {hidden, urlsplit(url).hostname}:
        raise ChannelError(Verdict.REFUSED, "it redirects away from the front")
    return urlsplit(url)._replace(path=parts.path, query=parts.query).geturl() if hidden else target


def _strong(etag: str) -> str:
    """A tag by which a download can be resumed (RFC 9110 §13.1.5), if it is one."""
    return etag if etag.startswith('"') and len(etag) <= 200 else ""  # noqa: PLR2004
