"""All HTTP carriers of a relay: each request that knocked finds its carrier here, or makes one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from circumvent.api.streams import ByteStream
from circumvent.errors import CircumventError, ProtocolError
from circumvent.layers.costs import INNER_TLS_COST
from circumvent.layers.exchange import receive, send
from circumvent.memory import Account
from circumvent.relay.admission import KnockedConnection
from circumvent.relay.carriers.http_requests import DownloadRequest, UploadRequest
from circumvent.relay.carriers.http_stream import HttpCarrierStream
from circumvent.relay.carriers.pending import PendingCarrier
from circumvent.tasks import dismiss
from circumvent.wire.http_carrier import (
    DOWNLOAD_HEAD,
    GONE,
    GREETING,
    MAX_UPLOAD,
    TAKEN,
    Flags,
    Note,
    parse_note,
)
from circumvent.wire.knock import Knock, KnockKind

UPLOAD_SECONDS = 60.0  # for a body, and those before it
# Carriers that are over, so that nobody begins them again by repeating a request: 3 MB, and more
# than any relay has within the half hour that a knock is good for.
MAX_ENDED = 20_000

Serve = Callable[[HttpCarrierStream], Awaitable[None]]


class HttpCarrierTable:
    """``serve`` is given each new carrier once, and owns it until it returns."""

    def __init__(self, account: Account, serve: Serve) -> None:
        self._account = account
        self._serve = serve
        self._ends: dict[bytes, HttpCarrierStream] = {}
        self._ended: OrderedDict[bytes, None] = OrderedDict()
        self._tasks: dict[asyncio.Task[None], HttpCarrierStream] = {}

    def expects(self, knock: Knock) -> bool:
        """Whether a request can belong to a carrier; elsewhere it is somebody's who repeats it."""
        if knock.kind not in (KnockKind.DOWNLOAD, KnockKind.UPLOAD):
            return True
        try:
            note = parse_note(knock.note)
        except ProtocolError:
            return False
        return note.carrier in self._ends or self._may_begin(note)

    def _may_begin(self, note: Note) -> bool:
        """Either kind of request may overtake the other."""
        return not note.offset and note.carrier not in self._ended

    async def welcome(self, arrival: KnockedConnection, caller: PendingCarrier) -> None:
        """One request, and ``caller`` until it is known whose it is.

        Owns the connection. Raises RemoteError, BudgetError when there is no room for another
        carrier.
        """
        note = parse_note(arrival.admission.knock.note)
        end = self._find(note, arrival.network)
        if end is not None:
            end.when_known(caller.move_on)
        if arrival.admission.knock.kind is KnockKind.DOWNLOAD:
            await self._download(end, arrival.stream, note)
        else:
            await self._upload(end, arrival, note)

    async def aclose(self) -> None:
        """End all carriers."""
        for end in tuple(self._tasks.values()):
            end.abort()
        await dismiss(self._tasks)

    async def _download(
        self, end: HttpCarrierStream | None, stream: ByteStream, note: Note
    ) -> None:
        if end is None or end.is_over or note.offset != end.sent:
            if end is not None and not end.is_over:
                end.abort()  # what it sent was lost on the way
            await self._close_with(stream, GONE)
            return
        await send(stream, self._account, DOWNLOAD_HEAD + GREETING)
        download = DownloadRequest(stream, short=Flags.SHORT in note.flags)
        watching = asyncio.ensure_future(self._watch(download))
        try:
            if await end.answer(download, note.offset):
                await stream.aclose()
        finally:
            watching.cancel()
            stream.abort()

    async def _watch(self, download: DownloadRequest) -> None:
        """A client has nothing to say here: who can be read has left."""
        with contextlib.suppress(CircumventError):
            await receive(download.stream, self._account)
        download.finish()

    async def _upload(
        self, end: HttpCarrierStream | None, arrival: KnockedConnection, note: Note
    ) -> None:
        stream, length = arrival.stream, arrival.admission.head.length
        if end is None or not 0 <= length <= MAX_UPLOAD:
            await self._close_with(stream, GONE)
            return
        upload = UploadRequest(stream, arrival.admission.early, length, note.offset)
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                taken = await end.take(upload, is_last=Flags.LAST in note.flags)
                if taken and await self._drained(stream, upload):
                    await self._close_with(stream, TAKEN)
        except TimeoutError:
            pass  # it is sent again, if its client is still there
        finally:
            stream.abort()

    async def _drained(self, stream: ByteStream, upload: UploadRequest) -> bool:
        """Read what was known already: a close with unread bytes would reset the answer."""
        while not upload.is_complete:
            data = await receive(stream, self._account)
            if not data:
                return False
            upload.skip(len(data))
        return True

    async def _close_with(self, stream: ByteStream, answer: bytes) -> None:
        await send(stream, self._account, answer)
        await stream.aclose()

    def _find(self, note: Note, network: str) -> HttpCarrierStream | None:
        if note.carrier not in self._ends and self._may_begin(note):
            return self._begin(note.carrier, network)
        return self._ends.get(note.carrier)

    def _begin(self, carrier: bytes, network: str) -> HttpCarrierStream:
        self._account.charge(INNER_TLS_COST.dial)
        end = self._ends[carrier] = HttpCarrierStream(network)
        task = asyncio.get_running_loop().create_task(self._run(end))
        self._tasks[task] = end
        task.add_done_callback(lambda _: self._forget(task, carrier))
        return end

    async def _run(self, end: HttpCarrierStream) -> None:
        try:
            await self._serve(end)
        except CircumventError:
            pass  # the session noticed, and goes on over its other carriers
        finally:
            end.abort()

    def _forget(self, task: asyncio.Task[None], carrier: bytes) -> None:
        del self._tasks[task]
        del self._ends[carrier]
        self._ended[carrier] = None
        if len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)
        self._account.discharge(INNER_TLS_COST.dial)
