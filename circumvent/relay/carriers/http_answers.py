"""Answers one request of an HTTP carrier (``wire.http_carrier``) that has knocked."""

from __future__ import annotations

import asyncio
import contextlib

from circumvent.api.streams import ByteStream
from circumvent.errors import CircumventError
from circumvent.layers.exchange import receive, send
from circumvent.memory import Account
from circumvent.relay.admission import KnockedConnection
from circumvent.relay.carriers.http_requests import DownloadRequest, UploadRequest
from circumvent.relay.carriers.http_stream import HttpCarrierStream
from circumvent.wire.http_carrier import (
    DOWNLOAD_HEAD,
    GONE,
    GREETING,
    MAX_UPLOAD,
    TAKEN,
    Flags,
    Note,
)


async def answer_download(
    carrier: HttpCarrierStream | None, stream: ByteStream, note: Note, account: Account
) -> None:
    """Write to the answer what the relay sends; ``carrier`` is None if there is no such carrier.

    Owns ``stream``. Raises RemoteError, BudgetError.
    """
    if carrier is None or carrier.is_over or note.offset != carrier.sent:
        if carrier is not None and not carrier.is_over:
            carrier.abort()  # bytes that the relay sent were lost on the way
        await _close_with(stream, account, GONE)
        return
    await send(stream, account, DOWNLOAD_HEAD + GREETING)
    download = DownloadRequest(stream, carrier.timings, short=Flags.SHORT in note.flags)
    watching = asyncio.ensure_future(_finish_when_left(download, account))
    try:
        if await carrier.send(download, note.offset):
            await stream.aclose()
    finally:
        watching.cancel()
        stream.abort()


async def _finish_when_left(download: DownloadRequest, account: Account) -> None:
    """A client sends nothing after its GET: what can be read is the end of its connection."""
    with contextlib.suppress(CircumventError):
        await receive(download.stream, account)
    download.finish()


async def answer_upload(
    carrier: HttpCarrierStream | None, knocked: KnockedConnection, note: Note, account: Account
) -> None:
    """Let the carrier read the body, then answer; ``carrier`` is None if there is no such carrier.

    Owns the connection. Raises RemoteError, BudgetError.
    """
    stream, length = knocked.stream, knocked.admission.head.length
    if carrier is None or not 0 <= length <= MAX_UPLOAD:
        await _close_with(stream, account, GONE)
        return
    upload = UploadRequest(stream, knocked.admission.early, length, note.offset)
    try:
        async with asyncio.timeout(carrier.timings.upload):
            taken = await carrier.receive(upload, is_last=Flags.LAST in note.flags)
            if taken and await _drain(stream, upload, account):
                await _close_with(stream, account, TAKEN)
    except TimeoutError:
        pass  # the client sends the body again, if it is still there
    finally:
        stream.abort()


async def _drain(stream: ByteStream, upload: UploadRequest, account: Account) -> bool:
    """Read the rest of a body that was not needed; False when the connection ended before.

    The kernel resets a connection that is closed with unread bytes, and the answer with it.
    """
    while not upload.is_complete:
        data = await receive(stream, account)
        if not data:
            return False
        upload.skip(len(data))
    return True


async def _close_with(stream: ByteStream, account: Account, answer: bytes) -> None:
    await send(stream, account, answer)
    await stream.aclose()
