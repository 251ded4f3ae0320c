"""The requests of one fronted carrier, by aiohttp, and what the answers of the front mean."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from circumvent.api import DialError, HandshakeError, StreamResetError
from circumvent.links.relay import RelayLink
from circumvent.links.relay_access import knock, web_name, web_place
from circumvent.wire.browser import fetch_headers
from circumvent.wire.http_carrier import CARRIER_SIZE, GREETING, Flags, Note, pack_note
from circumvent.wire.knock import KnockKind

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

_GOOD, _GONE, _TOO_MANY, _FRONTS_FAULT = 200, 410, 429, 500


class FrontError(StreamResetError):
    """A request failed on its path; it may be tried again."""


class Requests:
    """``session`` is connected to the front."""

    def __init__(self, session: ClientSession, link: RelayLink) -> None:
        self._session = session
        self._link = link
        self.start_over()
        self._url = f"https://{web_place(link)}{link.path}"

    def start_over(self) -> None:
        """Start another carrier; requests of the last one that are still open do not count."""
        self._carrier = os.urandom(CARRIER_SIZE)

    async def upload(self, body: bytes, offset: int, flags: Flags) -> None:
        """Hand ``body`` to the relay; raises FrontError, StreamResetError."""
        async with self._ask("POST", KnockKind.UPLOAD, offset, flags, body) as response:
            if response.status == _GONE:
                raise StreamResetError("the relay has ended this carrier", stage="carrier")

    @asynccontextmanager
    async def download(self, offset: int, flags: Flags) -> AsyncIterator[AsyncIterator[bytes]]:
        """The pieces of an answer; none when the relay, or a front, says that the carrier is over.

        Raises FrontError, StreamResetError.
        """
        async with self._ask("GET", KnockKind.DOWNLOAD, offset, flags) as response:
            yield _pieces(response)

    @asynccontextmanager
    async def _ask(
        self, method: str, kind: KnockKind, offset: int, flags: Flags, body: bytes | None = None
    ) -> AsyncIterator[ClientResponse]:
        from aiohttp import ClientError  # noqa: PLC0415 - 25 MB

        cookie = knock(self._link, kind, pack_note(Note(self._carrier, offset, flags)))
        query = {"t": os.urandom(4).hex()}  # so no cache has an answer for this URL
        try:
            async with self._session.request(
                method,
                self._url,
                params=query,
                data=body,
                headers=fetch_headers(web_name(self._link), cookie, body),
                skip_auto_headers=("Content-Type",),
                allow_redirects=False,
            ) as response:
                _check(response.status)
                yield response
        except (ClientError, TimeoutError, DialError, HandshakeError) as error:
            raise FrontError(f"the front: {error}", stage="carrier") from error


async def _pieces(response: ClientResponse) -> AsyncIterator[bytes]:
    if response.status == _GONE:
        return
    is_first = True
    async for piece in response.content.iter_any():
        if is_first and not piece.startswith(GREETING):
            raise StreamResetError("somebody else answered for the relay", stage="carrier")
        yield piece[len(GREETING) :] if is_first else piece
        is_first = False
    if is_first:
        raise FrontError("the front passed on no answer of the relay", stage="carrier")


def _check(status: int) -> None:
    if status in (_GOOD, _GONE):
        return
    message = f"the front answered with status {status}"
    if status == _TOO_MANY or status >= _FRONTS_FAULT:
        raise FrontError(message, stage="carrier")
    raise StreamResetError(message, stage="carrier")
