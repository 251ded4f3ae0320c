"""A carrier's first exchange: HELLO and its answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from circumvent.api.streams import ByteStream
from circumvent.errors import HandshakeError, StreamResetError
from circumvent.layers.exchange import receive, send
from circumvent.memory import Account
from circumvent.session.engine.limits import FIRST_PADS
from circumvent.wire.frames import PAD, CloseReason
from circumvent.wire.hello import (
    Hello,
    Welcome,
    format_hello,
    format_refusal,
    format_welcome,
    parse_answer,
    parse_hello,
)

_T = TypeVar("_T")
_WHY = {
    CloseReason.UNKNOWN_SESSION: "the relay does not know this session any more",
    CloseReason.REFUSED: "the relay does not accept this invite",
    CloseReason.VERSION: "the relay speaks another version of the protocol: update circumvent",
    CloseReason.BUSY: "the relay has no room for another session",
    CloseReason.DRAINING: "the relay is about to stop",
}


class RefusedError(HandshakeError):
    """The relay answered HELLO with CLOSE."""

    def __init__(self, reason: CloseReason) -> None:
        super().__init__(_WHY.get(reason, "the relay closed the session"), stage="hello")
        self.reason = reason


async def send_hello(stream: ByteStream, account: Account, hello: Hello) -> tuple[Welcome, bytes]:
    """Send HELLO; returns the relay's WELCOME and the bytes that came behind it.

    Raises HandshakeError (RefusedError when the relay refused), StreamResetError,
    ProtocolError.
    """
    await send(stream, account, format_hello(hello) + _padding())
    answer, leftover = await _take(stream, account, parse_answer)
    if isinstance(answer, CloseReason):
        raise RefusedError(answer)
    return answer, leftover


async def receive_hello(stream: ByteStream, account: Account) -> tuple[Hello, bytes]:
    """Read HELLO; returns it and the bytes that came behind it. Raises as ``send_hello``."""
    return await _take(stream, account, parse_hello)


async def send_welcome(stream: ByteStream, account: Account, streams: int) -> None:
    """Accept a carrier; raises StreamResetError."""
    await send(stream, account, format_welcome(Welcome(streams)) + _padding())


def _padding() -> bytes:
    return PAD * random.randrange(FIRST_PADS + 1)  # noqa: S311 - no secret


async def send_refusal(stream: ByteStream, account: Account, reason: CloseReason) -> None:
    """Refuse a carrier and close it; never raises."""
    try:
        await send(stream, account, format_refusal(reason))
        await stream.aclose()
    except StreamResetError:
        stream.abort()


async def _take(
    stream: ByteStream, account: Account, parse: Callable[[bytes], tuple[_T, int] | None]
) -> tuple[_T, bytes]:
    data = b""
    while (found := parse(data)) is None:
        more = await receive(stream, account)
        if not more:
            raise HandshakeError("the carrier was closed during the handshake", stage="hello")
        data += more
    message, end = found
    return message, data[end:]
