"""Carries a visitor to the cover site and back, byte for byte, until the visitor knocks.

The proxy reads each request's head while it passes it on. So the visitor sees what the site does,
and when: with half a head, with nonsense, or with silence. Only the bytes that complete a right
knock do not reach the site.
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

LINGER_SECONDS = (
    30.0  # for the visitor's last bytes after the site closed; as long as asyncio's TLS
)


class CoverProxy:
    """``admit`` verifies the knock of a head. Owns ``site``; leaves an admitted visitor open.

    ``served_at`` is when the site last sent anything (monotonic seconds), 0 before that.
    """

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
        self.served_at = 0.0

    async def run(self) -> Admission | None:
        """Run until the visitor is admitted (None if never), or either side has closed.

        Raises RemoteError, BudgetError.
        """
        requests = asyncio.ensure_future(self._pass_requests())
        answers = asyncio.ensure_future(
            pump(self._site, self._visitor, self._account, self._note_served)
        )
        try:
            await asyncio.wait((requests, answers), return_when=asyncio.FIRST_COMPLETED)
            if requests.done() and (admission := requests.result()) is not None:
                return admission
            await self._finish_answers(answers)
            await dismiss((requests,))
            await self._linger()
            return None
        finally:
            await dismiss((requests, answers))
            self._site.abort()

    async def _finish_answers(self, answers: asyncio.Future[None]) -> None:
        """Wait until the visitor has all that the site sent, even if the site then reset."""
        try:
            await answers
        except StreamResetError as error:
            if error.stage == "write":  # the visitor is gone, not the site
                raise
            self._visitor.write_eof()

    async def _linger(self) -> None:
        """Read on after the site closed: a close with unread bytes would reset its last answer."""
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
            return None  # the site reads no more, and may have answered

    async def _watch_requests(self) -> Admission | None:
        watch = RequestWatch()
        while data := await receive(self._visitor, self._account):
            admission = await self._find_knock(watch, data)
            if admission is not None:
                return admission
            await send(self._site, self._account, data)
        self._site.write_eof()
        return None

    async def _find_knock(self, watch: RequestWatch, data: bytes) -> Admission | None:
        at = 0
        while at < len(data):
            at, head = watch.take(data, at)
            knock = None if head is None else self._admit(head)
            if head is not None and knock is not None:
                return Admission(knock, head, data[at:])
            if at < len(data):  # let others run: one record may hold a thousand heads
                await asyncio.sleep(0)
        return None

    def _note_served(self, _: int) -> None:
        self.served_at = time.monotonic()
