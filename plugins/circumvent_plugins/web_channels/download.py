"""One bounded download over HTTPS, resumed where it was cut, and the meaning of a failure."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from msgspec import Struct

from circumvent.api import (
    ChannelError,
    CircumventError,
    Fetch,
    HandshakeError,
    ProtocolError,
    TlsOptions,
    Verdict,
)
from circumvent.http.client import http_client, limited_body, web_tls
from circumvent.wire.bundle import MAX_BUNDLE

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientTimeout

MAX_REDIRECTS = 3  # a mirror that moved; more is a loop or a trap
PIECE = 8 * 1024  # bytes; with a handshake less than the 16 KiB that some censors let pass
MAX_LIST = 64 << 20  # bytes; nothing holds a list as a whole, but one that never ends is a trap
_HEAD = 256  # bytes by which a web page is known
HEADERS = {"User-Agent": "Mozilla/5.0", "Accept": "*/*"}  # some hosts refuse requests without one
ETAG = "etag"  # in the notes
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PARTIAL = 206
_GONE = frozenset({404, 410})
_NETWORK_LOGIN = 511  # RFC 6585 §6
_HTML = re.compile(rb"\s*<(!doctype\s+html|html|head|body|script|meta)", re.IGNORECASE)
# What a CDN calls itself when it refuses a host that it does not serve.
_CDNS = ("cloudflare", "cloudfront", "akamai", "fastly", "varnish", "bunny", "azure", "ecs", "gse")


class DownloadTimings(Struct, frozen=True):
    """How long a download may take, in seconds."""

    whole: float = 18.0  # less than callers wait, so that they learn the reason
    dial: float = 6.0
    stalls_after: float = 3.0  # without a byte
    retry_after: float = 0.2  # since it was cut


@dataclass
class Download:
    """One file at ``url``; ``host`` is asked for instead of the URL's where it is given.

    A censor may let the first 16 KiB of a connection pass and freeze the rest. So a connection that
    stalls is given up, and others ask for the rest, in pieces when nothing else gets through.
    """

    request: Fetch
    url: str
    host: str = ""
    tls: Callable[[str], TlsOptions] = web_tls
    timings: DownloadTimings = field(default_factory=DownloadTimings)
    limit: int = MAX_BUNDLE
    etag: str = ""
    head: bytes = b""
    size: int = 0
    is_whole: bool = False
    in_pieces: bool = False

    async def run(self) -> bytes:
        """The whole body; raises ChannelError."""
        got = bytearray()
        try:
            async with asyncio.timeout(self.timings.whole), aclosing(self._pieces()) as pieces:
                async for start, piece in pieces:
                    del got[start:]
                    got += piece
        except TimeoutError:
            raise ChannelError(Verdict.TOO_SLOW, f"{self.timings.whole:.0f} s") from None
        return bytes(got)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, each byte of it once; raises ChannelError.

        A host that cannot resume begins anew: as much as came before is skipped then.
        """
        end = 0
        async with aclosing(self._pieces()) as pieces:
            async for start, piece in pieces:
                if start + len(piece) > end:
                    yield piece[end - start :] if start < end else piece
                    end = start + len(piece)

    async def _pieces(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """The pieces, each with its place in the body; raises ChannelError."""
        from aiohttp import ClientError  # noqa: PLC0415 - 25 MB

        most = self.limit // PIECE + 3
        for attempt in range(1, most + 1):
            before = self.size
            try:
                async with aclosing(self._connect()) as pieces:
                    async for piece in pieces:
                        yield piece
            except ChannelError:
                raise
            except (ClientError, CircumventError, OSError) as error:
                if attempt == most or not self._may_go_on(before, error):
                    raise explain(error, self.limit) from error
                await asyncio.sleep(self.timings.retry_after)
            if self.is_whole:
                self.request.notes[ETAG] = self.etag
                return
        raise ChannelError(Verdict.TOO_SLOW, f"{most} connections")

    def _may_go_on(self, before: int, error: Exception) -> bool:
        """Whether to try again: bytes came, or it stalled and can be asked for less at a time."""
        if self.size > before:
            return True
        from aiohttp import SocketTimeoutError  # noqa: PLC0415 - 25 MB

        was_in_pieces, self.in_pieces = self.in_pieces, True
        return isinstance(error, SocketTimeoutError) and not was_in_pieces

    async def _connect(self) -> AsyncGenerator[tuple[int, bytes], None]:
        known = self.request.notes.get(ETAG, "")
        url = self.url
        async with http_client(self.request.dialer, self.request.account, tls=self.tls) as session:
            for _ in range(MAX_REDIRECTS + 1):
                async with session.get(
                    url,
                    headers=self._headers(known),
                    allow_redirects=False,
                    timeout=_timeout(self.timings),
                ) as response:
                    if response.status not in _REDIRECTS:
                        async with aclosing(self._take(response)) as pieces:
                            async for piece in pieces:
                                yield piece
                        return
                    url = _redirected(url, response.headers.get("Location", ""), hidden=self.host)
        raise ChannelError(Verdict.REFUSED, f"more than {MAX_REDIRECTS} redirects")

    def _headers(self, known: str) -> Mapping[str, str]:
        headers = dict(HEADERS)
        if self.host:
            headers["Host"] = self.host
        if self.in_pieces or (self.size and self.etag):
            start = self.size
            headers["Range"] = f"bytes={start}-{start + PIECE - 1 if self.in_pieces else ''}"
        if self.size and self.etag:  # without one, the signature tells whether pieces fit
            headers["If-Range"] = self.etag
        elif known:
            headers["If-None-Match"] = known
        return headers

    async def _take(self, response: ClientResponse) -> AsyncGenerator[tuple[int, bytes], None]:
        _check_status(response)
        is_part = response.status == _PARTIAL and self._continues(response)
        if not is_part:
            self.size, self.head = 0, b""
        self.etag = _strong(response.headers.get("ETag", ""))
        async for piece in limited_body(response, self.limit - self.size):
            self.head += piece[: _HEAD - len(self.head)]
            if _HTML.match(self.head):
                raise ChannelError(Verdict.PORTAL)
            start, self.size = self.size, self.size + len(piece)
            yield start, piece
        size = response.headers.get("Content-Range", "").rpartition("/")[2]
        self.is_whole = not is_part or size == str(self.size)

    def _continues(self, response: ClientResponse) -> bool:
        return response.headers.get("Content-Range", "").startswith(f"bytes {self.size}-")


def _timeout(timings: DownloadTimings) -> ClientTimeout:
    from aiohttp import ClientTimeout  # noqa: PLC0415 - 25 MB

    return ClientTimeout(sock_connect=timings.dial, sock_read=timings.stalls_after)


def explain(error: Exception, limit: int) -> ChannelError:
    """What a failed request for at most ``limit`` bytes means to the user."""
    from aiohttp import ClientPayloadError, ServerDisconnectedError  # noqa: PLC0415 - 25 MB

    code = getattr(error, "errno", None)
    if isinstance(error, TimeoutError):
        return ChannelError(Verdict.TOO_SLOW, "nothing came for seconds")
    if isinstance(error, ProtocolError):
        return ChannelError(Verdict.TOO_LARGE, f"over {limit} bytes")
    if isinstance(error, HandshakeError):
        return ChannelError(Verdict.BLOCKED, str(error), errno=code)
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
