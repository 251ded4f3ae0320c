"""One visitor and the cover site: every byte passes as it comes, until somebody knocks.

A request's head is looked at while it is passed on. So what the site does with half a head, with
nonsense or with a visitor that says nothing, and when, is what the visitor sees. Only the bytes
that complete a right knock are kept from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from circumvent.api.streams import ByteStream
from circumvent.errors import StreamResetError
from circumvent.layers.exchange import receive, send
from circumvent.memory import Account
from circumvent.net.pump import pump
from circumvent.relay.admission import Admission
from circumvent.tasks import dismiss
from circumvent.wire.knock import Knock
from circumvent.wire.request_watch import RequestHead, RequestWatch

LINGER_SECONDS = 30.0  # for a visitor's last words after the site closed; as asyncio's own TLS


class CoverProxy:
    """``visitor`` is left open when it was admitted; ``site`` is owned."""

    __slots__ = ("_account", "_admit", "_site", "_visitor", "served_at")

    def __init__(
        self,
        visitor: ByteStream,
        site: ByteStream,
        account: Account,
        admit: Callable[[RequestHead], Knock | None],
    ) -> None:
        self._visitor = visitor
        self._site = site
        self._account = account
        self._admit = admit
        self.served_at = 0.0  # when the site said something last

    async def run(self) -> Admission | None:
        """Until somebody is admitted, or either side has left; raises RemoteError, BudgetError."""
        requests = asyncio.ensure_future(self._pass_requests())
        answers = asyncio.ensure_future(
            pump(self._site, self._visitor, self._account, self._served)
        )
        try:
            await asyncio.wait((requests, answers), return_when=asyncio.FIRST_COMPLETED)
            if requests.done() and (admission := requests.result()) is not None:
                return admission
            await self._last_words(answers)
            await dismiss((requests,))
            await self._linger()
            return None
        finally:
            await dismiss((requests, answers))
            self._site.abort()

    async def _last_words(self, answers: asyncio.Future[None]) -> None:
        """A site that is told more than it wants to hear breaks off: what it said still counts."""
        try:
            await answers
        except StreamResetError as error:
            if error.stage == "write":  # it is the visitor who is gone
                raise
            self._visitor.write_eof()

    async def _linger(self) -> None:
        """The site closed: let its last words arrive, which a reset would overtake."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while await receive(self._visitor, self._account):
                    pass

    async def _pass_requests(self) -> Admission | None:
        try:
            return await self._watch_requests()
        except StreamResetError as error:
            if error.stage != "write":
                raise
            return None  # the site hears nothing more, and may have answered

    async def _watch_requests(self) -> Admission | None:
        watch = RequestWatch()
        while data := await receive(self._visitor, self._account):
            admission = await self._look(watch, data)
            if admission is not None:
                return admission
            await send(self._site, self._account, data)
        self._site.write_eof()
        return None

    async def _look(self, watch: RequestWatch, data: bytes) -> Admission | None:
        at = 0
        while at < len(data):
            at, head = watch.take(data, at)
            knock = None if head is None else self._admit(head)
            if head is not None and knock is not None:
                return Admission(knock, head, data[at:])
            if at < len(data):  # a thousand heads, all in one record, have no right to all our time
                await asyncio.sleep(0)
        return None

    def _served(self, _: int) -> None:
        self.served_at = time.monotonic()
