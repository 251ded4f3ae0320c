"""One HTTP carrier at the relay: a ByteStream that is made of many requests.

It reads from the upload that holds the next byte, straight out of that request's connection, and
writes to the download that is open. An upload that came too early stays unread in the kernel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from circumvent.api.streams import ByteStream
from circumvent.errors import StreamResetError
from circumvent.layers.tls.context import RECORD
from circumvent.net.readiness import NOW
from circumvent.relay.carriers.http_requests import DownloadRequest, HttpTimings, UploadRequest
from circumvent.tasks import wake
from circumvent.wire.http_carrier import UPLOADS_AT_ONCE

MAX_WAITING = 2 * UPLOADS_AT_ONCE  # a front may repeat a request that it gave up on


class HttpCarrierStream(ByteStream):
    """The relay's end of the carrier.

    ``received`` and ``sent`` are the carrier's bytes so far, in each direction. ``network`` is
    the network that its first request came from.
    """

    def __init__(self, network: str, timings: HttpTimings) -> None:
        self.network = network
        self.timings = timings
        self.record = RECORD  # the smallest buffer that the TLS of a request's connection can use
        self.received = 0
        self.sent = 0
        self._length: int | None = None  # of all that the client sends, once that is known
        self._uploads: list[UploadRequest] = []
        self._download: DownloadRequest | None = None
        self._is_over = False  # nothing more is written
        self._is_broken = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._on_authenticated: list[Callable[[], None]] | None = []
        self._watch_silence()

    # --- authentication -------------------------------------------------------------------------

    def on_authenticated(self, call: Callable[[], None]) -> None:
        """Call back once the carrier's user is authenticated; at once if that has happened."""
        if self._on_authenticated is None:
            call()
        else:
            self._on_authenticated.append(call)

    def set_authenticated(self) -> None:
        """The carrier's user is authenticated: make the calls that wait for this."""
        calls, self._on_authenticated = self._on_authenticated or [], None
        for call in calls:
            call()

    # --- requests -------------------------------------------------------------------------------

    async def receive(self, upload: UploadRequest, *, is_last: bool) -> bool:
        """Wait until all of ``upload`` was read; returns False when it never will be."""
        if self._is_broken or len(self._uploads) >= MAX_WAITING:
            return False
        if is_last:
            self._length = upload.end
        for older in self._uploads:  # the client sent this body again: it gave up on the older one
            if older.offset < upload.end and upload.offset < older.end:
                older.finish(taken=False)
        wake(self._reader)
        if upload.end <= self.received:
            return True
        self._uploads.append(upload)
        self._watch_silence()
        try:
            return bool(await upload.done)
        finally:
            self._uploads.remove(upload)
            self._watch_silence()

    async def send(self, download: DownloadRequest, offset: int) -> bool:
        """Write to ``download`` until it is over.

        Returns False at once when ``offset`` is not where the carrier stands: bytes were lost.
        """
        if self._is_broken or self._is_over or offset != self.sent:
            return False
        if self._download is not None:
            self._download.finish()
        self._download = download
        self._watch_silence()
        wake(self._writer)
        try:
            await download.done
        finally:
            if self._download is download:
                self._download = None
                self._watch_silence()
        return True

    def _watch_silence(self) -> None:
        """Abort the carrier when no request is open for too long."""
        is_silent = self._download is None and not self._uploads and not self._is_broken
        if self._silence is not None and not is_silent:
            self._silence.cancel()
            self._silence = None
        elif self._silence is None and is_silent:
            loop = asyncio.get_running_loop()
            self._silence = loop.call_later(self.timings.silence, self.abort)

    @property
    def is_over(self) -> bool:
        """Whether the relay sends nothing more."""
        return self._is_over

    # --- reading what the client sends ------------------------------------------------------------

    def _next_upload(self) -> UploadRequest | None:
        """The upload that holds the next byte of the carrier."""
        for upload in self._uploads:
            if not upload.done.done() and upload.offset <= self.received < upload.end:
                return upload
        return None

    @property
    def _has_all(self) -> bool:
        return self._length is not None and self.received >= self._length

    def wait_readable(self) -> Awaitable[None]:
        if self._is_broken or self._has_all:
            return NOW
        upload = self._next_upload()
        if upload is not None:
            return upload.wait_readable()
        self._reader = asyncio.get_running_loop().create_future()
        return self._reader

    def read_into(self, buffer: memoryview) -> int | None:
        self._check()
        if self._has_all:
            return 0
        upload = self._next_upload()
        if upload is None:
            return None
        count = self._read(upload, buffer)
        self.received += count
        for each in self._uploads:
            if each.end <= self.received:
                each.finish(taken=True)
        return count or None

    def _read(self, upload: UploadRequest, buffer: memoryview) -> int:
        """Read new bytes of ``upload``, and drop those that an earlier upload has brought."""
        start = upload.offset
        try:
            count = upload.read_into(buffer)
        except StreamResetError:
            count = 0
        if count == 0:
            upload.finish(taken=False)
        known = min(max(self.received - start, 0), count or 0)
        fresh = (count or 0) - known
        if known and fresh:
            buffer[:fresh] = buffer[known : known + fresh]
        return fresh

    # --- writing to the client --------------------------------------------------------------------

    def room(self) -> int:
        if self._is_broken:
            return RECORD  # so that the caller writes, and learns it by the error
        download = self._download
        return 0 if download is None or download.is_over else download.stream.room()

    def wait_writable(self) -> Awaitable[None]:
        download = self._download
        if self._is_broken:
            return NOW
        if download is not None and (not download.is_over or download.stream.unsent is not None):
            return download.stream.wait_writable()
        self._writer = asyncio.get_running_loop().create_future()
        return self._writer

    def write(self, block: memoryview, start: int, end: int) -> int:
        self._check()
        download = self._download
        if download is None or download.is_over or start == end:
            return 0
        count = download.stream.write(block, start, end)
        self.sent += count
        download.add_sent(count)
        return count

    @property
    def unsent(self) -> memoryview | None:
        return None if self._download is None else self._download.stream.unsent

    @unsent.setter
    def unsent(self, view: memoryview | None) -> None:
        if self._download is not None:
            self._download.stream.unsent = view

    def flush(self) -> bool:
        self._check()
        download = self._download
        if download is None:
            return True
        flushed = download.stream.flush()
        if flushed and download.is_over:
            download.finish()
        return flushed

    def write_eof(self) -> None:
        self._is_over = True
        if self._download is not None:
            self._download.end()

    async def aclose(self) -> None:
        if not self._is_broken:
            self.write_eof()
        self.abort()

    def abort(self) -> None:
        self._is_broken = self._is_over = True
        self._watch_silence()
        for upload in self._uploads:
            upload.finish(taken=self._has_all)
        if self._download is not None:
            self._download.finish()
        wake(self._reader)
        wake(self._writer)

    def _check(self) -> None:
        if self._is_broken:
            raise StreamResetError("connection lost: the carrier was closed", stage="carrier")
