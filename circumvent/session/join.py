"""Joins a stream of a session with its destination: both directions, until both are done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from circumvent.api.streams import ByteStream
from circumvent.errors import CircumventError
from circumvent.memory import Account
from circumvent.net.pump import pump
from circumvent.session.session_stream import SessionStream
from circumvent.tasks import dismiss
from circumvent.wire.frames import ResetReason

Moved = Callable[[int], None]


async def join(
    stream: SessionStream, far: ByteStream, account: Account, up: Moved, down: Moved
) -> None:
    """Move bytes both ways; when one side breaks, cut the other. Owns ``far``; never raises.

    ``up`` and ``down`` are called with the number of bytes that moved.
    """
    upwards = asyncio.get_running_loop().create_task(_one_way(stream, far, account, up))
    try:
        downwards = await _one_way(far, stream, account, down)
        if downwards is None:
            downwards = await upwards
        if downwards is None:
            await far.aclose()
            await stream.aclose()
    finally:
        await dismiss((upwards,))
        far.abort()
        stream.cut(ResetReason.BROKEN)


async def _one_way(
    source: ByteStream, sink: ByteStream, account: Account, moved: Moved
) -> CircumventError | None:
    try:
        await pump(source, sink, account, moved)
    except CircumventError as error:
        source.abort()
        if isinstance(sink, SessionStream):
            sink.cut(ResetReason.BROKEN)
        else:
            sink.abort()
        return error
    return None
