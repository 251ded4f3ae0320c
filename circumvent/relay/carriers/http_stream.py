"""The relay's end of an HTTP carrier: one stream made of many requests.

It reads from the upload whose turn it is, straight out of that connection, and writes to the
download that is open. Uploads that came too early wait unread in the kernel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from circumvent.api.streams import ByteStream
from circumvent.errors import StreamResetError
from circumvent.layers.tls.context import RECORD
from circumvent.net.readiness import NOW
from circumvent.relay.carriers.http_requests import DownloadRequest, UploadRequest
from circumvent.tasks import wake
from circumvent.wire.http_carrier import UPLOADS_AT_ONCE

MAX_WAITING = 2 * UPLOADS_AT_ONCE  # a front may repeat a request that it gave up on
SILENCE_SECONDS = 30.0  # without any request; clients always have one under way


class HttpCarrierStream(ByteStream):
    """``received`` and ``sent``: bytes of the carrier so far, both ways.

    ``network`` is where its first request came from.
    """

    def __init__(self, network: str) -> None:
        self.network = network
        self.record = RECORD  # what a TLS connection of one of its requests needs
        self.received = 0
        self.sent = 0
        self._last: int | None = None  # where the client's bytes end
        self._uploads: list[UploadRequest] = []
        self._download: DownloadRequest | None = None
        self._is_over = False  # nothing more is written
        self._is_broken = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._loneliness: asyncio.TimerHandle | None = None
        self._when_known: list[Callable[[], None]] | None = []
        self._look_around()

    # --- whose it is ----------------------------------------------------------------------------

    def when_known(self, call: Callable[[], None]) -> None:
        """Call back once it is known whose carrier this is, at once if it is."""
        if self._when_known is None:
            call()
        else:
            self._when_known.append(call)

    def make_known(self) -> None:
        """Its user was let in."""
        calls, self._when_known = self._when_known or [], None
        for call in calls:
            call()

    # --- requests -------------------------------------------------------------------------------

    async def take(self, upload: UploadRequest, *, is_last: bool) -> bool:
        """Wait until all of ``upload`` was read; False when it never will be."""
        if self._is_broken or len(self._uploads) >= MAX_WAITING:
            return False
        if is_last:
            self._last = upload.end
        for older in self._uploads:  # of a request that its client gave up on
            if older.offset < upload.end and upload.offset < older.end:
                older.finish(taken=False)
        wake(self._reader)
        if upload.end <= self.received:
            return True
        self._uploads.append(upload)
        self._look_around()
        try:
            return bool(await upload.done)
        finally:
            self._uploads.remove(upload)
            self._look_around()

    async def answer(self, download: DownloadRequest, offset: int) -> bool:
        """Write to ``download`` until it is over; False when its client lost something."""
        if self._is_broken or self._is_over or offset != self.sent:
            return False
        if self._download is not None:
            self._download.finish()
        self._download = download
        self._look_around()
        wake(self._writer)
        try:
            await download.done
        finally:
            if self._download is download:
                self._download = None
                self._look_around()
        return True

    def _look_around(self) -> None:
        """A carrier that has no request for long is over."""
        is_alone = self._download is None and not self._uploads and not self._is_broken
        if self._loneliness is not None and not is_alone:
            self._loneliness.cancel()
            self._loneliness = None
        elif self._loneliness is None and is_alone:
            loop = asyncio.get_running_loop()
            self._loneliness = loop.call_later(SILENCE_SECONDS, self.abort)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be sent."""
        return self._is_over

    # --- the client's bytes ---------------------------------------------------------------------

    def _turn(self) -> UploadRequest | None:
        """The upload that has the next byte."""
        for upload in self._uploads:
            if not upload.done.done() and upload.offset <= self.received < upload.end:
                return upload
        return None

    @property
    def _has_all(self) -> bool:
        return self._last is not None and self.received >= self._last

    def wait_readable(self) -> Awaitable[None]:
        if self._is_broken or self._has_all:
            return NOW
        upload = self._turn()
        if upload is not None:
            return upload.wait_readable()
        self._reader = asyncio.get_running_loop().create_future()
        return self._reader

    def read_into(self, buffer: memoryview) -> int | None:
        self._check()
        if self._has_all:
            return 0
        upload = self._turn()
        if upload is None:
            return None
        count = self._read(upload, buffer)
        self.received += count
        for each in self._uploads:
            if each.end <= self.received:
                each.finish(taken=True)
        return count or None

    def _read(self, upload: UploadRequest, buffer: memoryview) -> int:
        """New bytes of ``upload``: what is known already is dropped."""
        at = upload.offset
        try:
            count = upload.read_into(buffer)
        except StreamResetError:
            count = 0
        if count == 0:
            upload.finish(taken=False)
        known = min(max(self.received - at, 0), count or 0)
        fresh = (count or 0) - known
        if known and fresh:
            buffer[:fresh] = buffer[known : known + fresh]
        return fresh

    # --- our bytes ------------------------------------------------------------------------------

    def room(self) -> int:
        if self._is_broken:
            return RECORD  # the write will say so
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
        download.said(count)
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
        self._look_around()
        for upload in self._uploads:
            upload.finish(taken=self._has_all)
        if self._download is not None:
            self._download.finish()
        wake(self._reader)
        wake(self._writer)

    def _check(self) -> None:
        if self._is_broken:
            message = "connection lost: the carrier was closed"
            raise StreamResetError(message, stage="carrier")
