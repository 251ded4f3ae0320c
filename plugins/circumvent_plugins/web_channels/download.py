"""A download that is bounded in size and time, and goes on where it was cut.

A censor may let the first 16 KiB of a connection pass and freeze the rest: so a stalled
connection is given up, and another one asks for what is missing (RFC 9110 §14).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from circumvent.api import ChannelError, CircumventError, StreamResetError, Verdict
from circumvent_plugins.web_channels.verdicts import explain, is_web_page, refusal

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

DOWNLOAD_SECONDS = 15.0  # all in all, however the bytes drip
STALL_SECONDS = 4.0  # without a byte: then another connection goes on
MAX_CONNECTIONS = 6  # one more than a bundle has times 16 KiB, and each must bring something
MAX_REDIRECTS = 3
MAX_ETAG = 256  # characters; it is kept between runs
_ENOUGH_OF_AN_ERROR = 2048  # bytes; to see whose it is
_REDIRECTS = (301, 302, 303, 307, 308)

Refusal = Callable[[int, Mapping[str, str], bytes], ChannelError]


def _plain_refusal(status: int, _: Mapping[str, str], __: bytes) -> ChannelError:
    return refusal(status)


@dataclass(slots=True)
class Download:
    """One file of at most ``limit`` bytes; ``etag`` is that of the version that is known."""

    session: ClientSession
    url: str
    limit: int
    etag: str = ""
    may_redirect: bool = True
    refusal: Refusal = _plain_refusal
    seconds: float = DOWNLOAD_SECONDS
    new_etag: str = ""
    body: bytearray = field(default_factory=bytearray)
    _redirects: int = 0

    async def run(self) -> bytes:
        """The whole file; raises ChannelError, and LocalError."""
        try:
            async with asyncio.timeout(self.seconds):
                await self._until_whole()
        except ChannelError:
            raise
        except Exception as error:
            raise explain(error) from error
        if is_web_page(self.body):
            raise ChannelError(Verdict.PORTAL)
        return bytes(self.body)

    async def _until_whole(self) -> None:
        for _ in range(MAX_CONNECTIONS + MAX_REDIRECTS):
            before = len(self.body)
            try:
                if await self._connect():
                    return
            except _interruptions():
                if len(self.body) <= before:
                    raise
        raise ChannelError(Verdict.BLOCKED, "the connection was cut again and again")

    async def _connect(self) -> bool:
        """Whether the file is whole now."""
        from aiohttp import ClientTimeout  # noqa: PLC0415 - heavy

        async with self.session.get(
            self.url,
            headers=self._conditions(),
            allow_redirects=False,
            timeout=ClientTimeout(sock_read=STALL_SECONDS),
        ) as response:
            if response.status in _REDIRECTS:
                self._follow(response.headers.get("Location", ""))
                return False
            if not await self._accepts(response):
                return False
            await self._read(response)
            return True

    def _conditions(self) -> dict[str, str]:
        if self.body and self.new_etag:
            return {"Range": f"bytes={len(self.body)}-", "If-Range": self.new_etag}
        return {"If-None-Match": self.etag} if self.etag else {}

    def _follow(self, location: str) -> None:
        if not self.may_redirect:
            raise ChannelError(Verdict.REFUSED, "it sends us elsewhere, where no front leads")
        self._redirects += 1
        if self._redirects > MAX_REDIRECTS:
            raise ChannelError(Verdict.BROKEN, f"more than {MAX_REDIRECTS} redirects")
        self.url = urljoin(self.url, location)
        if urlsplit(self.url).scheme != "https":
            raise ChannelError(Verdict.PORTAL, "it leads to a place without TLS")

    async def _accepts(self, response: ClientResponse) -> bool:
        """Whether the body is worth reading; False when it has to be asked for anew."""
        status = response.status
        if status == HTTPStatus.NOT_MODIFIED and self.etag:
            raise ChannelError(Verdict.UNCHANGED)
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {len(self.body)}-")
        if status == HTTPStatus.PARTIAL_CONTENT and self.body and goes_on:
            return True
        if status == HTTPStatus.OK:
            self.body.clear()
            self.new_etag = _strong(response.headers.get("ETag", ""))
            return True
        if self.body:
            self.body.clear()  # it cannot go on; from the start, then
            self.new_etag = ""
            return False
        raise self.refusal(status, response.headers, await _beginning(response))

    async def _read(self, response: ClientResponse) -> None:
        if len(self.body) + (response.content_length or 0) > self.limit:
            raise ChannelError(Verdict.TOO_LARGE)
        async for piece in response.content.iter_any():
            self.body += piece
            if len(self.body) > self.limit:
                raise ChannelError(Verdict.TOO_LARGE)
            if is_web_page(self.body):
                raise ChannelError(Verdict.PORTAL)


def _strong(etag: str) -> str:
    """Only these promise the same bytes (RFC 9110 §8.8.1)."""
    return etag if etag.startswith('"') and len(etag) <= MAX_ETAG else ""


def _interruptions() -> tuple[type[Exception], ...]:
    from aiohttp import ClientConnectionError, ClientPayloadError  # noqa: PLC0415 - heavy

    return ClientPayloadError, ClientConnectionError, StreamResetError


async def _beginning(response: ClientResponse) -> bytes:
    body = b""
    with suppress(*_interruptions(), CircumventError):
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > _ENOUGH_OF_AN_ERROR:
                break
    return body[:_ENOUGH_OF_AN_ERROR]
