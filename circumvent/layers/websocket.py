"""A stream inside WebSocket frames (RFC 6455): what goes through web servers and CDNs.

Frames are made and taken apart in the caller's block. A close frame ends one direction, as the
end of file does elsewhere: between two ends of this program the other direction goes on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable
from dataclasses import dataclass

from circumvent.api.layer import LayerStream, StreamLayer
from circumvent.api.streams import ByteStream, SecureStream
from circumvent.errors import HandshakeError, ProtocolError, StreamResetError
from circumvent.layers.backlog import Backlog
from circumvent.layers.exchange import FLIGHT, receive_flight, send_flight
from circumvent.net.readiness import NOW
from circumvent.net.sockets import send_close
from circumvent.wire.websocket import (
    MAX_HEADER,
    FrameReader,
    Opcode,
    is_orderly,
    make_close,
    make_control,
    mask,
    put_header,
)
from circumvent.wire.websocket_handshake import ClientUpgrade, upgrade_answer

_KEY = 4
_OVERHEAD = 1024  # headers of frames within one read; where they are many, less is read
_MOST_WAITING = 1024  # bytes; a peer that sends pings and does not read gets fewer pongs


class WebSocketStream(LayerStream):
    """One end of a WebSocket, after the handshake; ``early`` came together with that.

    ``half_closes``: whether the peer goes on sending after a close frame. Others end both
    directions then, in the middle of an answer: they get it when the stream is closed. Some of
    them send none, so where TLS below proves that they have ended, that is enough.
    """

    __slots__ = ("_backlog", "_early", "_end_announced", "_half_closes", "_is_client", "_reader")

    def __init__(
        self,
        base: ByteStream,
        *,
        is_client: bool,
        early: bytes = b"",
        half_closes: bool = True,
    ) -> None:
        super().__init__(base)
        self.record = max(base.record, FLIGHT, len(early))
        self.overhead = base.overhead + _OVERHEAD
        self.headroom = base.headroom + MAX_HEADER
        self._backlog = Backlog(base)
        self._is_client = is_client
        self._reader = FrameReader(masked=not is_client)
        self._early = early
        self._end_announced = False
        self._half_closes = half_closes

    def wait_readable(self) -> Awaitable[None]:
        is_over = self._reader.closed is not None
        return NOW if is_over or self._early else self.base.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        if self._reader.closed is not None:
            return self._end(self._reader.closed)
        size = self._receive(buffer)
        if size is None:
            return None
        if not size:
            return self._end_below()
        count = self._reader.unpack(buffer[:size])
        self._answer()
        return count or None

    @staticmethod
    def _end(code: int) -> int:
        if not is_orderly(code):
            raise StreamResetError(f"WebSocket: the peer gave up with code {code}", stage="read")
        return 0

    def _end_below(self) -> int:
        is_proved = not self._half_closes and isinstance(self.base, SecureStream)
        if is_proved and self._reader.is_between_messages:
            return 0
        raise StreamResetError(
            "connection lost: it was cut, for the WebSocket ended without a close frame",
            stage="read",
        )

    def _receive(self, buffer: memoryview) -> int | None:
        if not self._early:
            return self.base.read_into(buffer)
        size = len(self._early)
        buffer[:size], self._early = self._early, b""
        return size

    def _answer(self) -> None:
        """Send a pong when there was a ping."""
        ping, self._reader.ping = self._reader.ping, None
        if ping is not None and not self._end_announced and len(self._backlog) < _MOST_WAITING:
            self._backlog.add(make_control(Opcode.PONG, ping, self._new_key()))
            self.flush()

    def _new_key(self) -> bytes:
        return os.urandom(_KEY) if self._is_client else b""

    def room(self) -> int:
        room = self._backlog.room()
        return max(room - MAX_HEADER, min(room, 1))

    def write(self, block: memoryview, start: int, end: int) -> int:
        size = min(end - start, self.room())
        if not size:
            return 0
        key = self._new_key()
        if key:
            mask(block[start : start + size], key)
        first = put_header(block, start, size, key)
        self._backlog.pass_on(block, first, start + size)
        return size

    def flush(self) -> bool:
        return self._backlog.flush()

    def write_eof(self) -> None:
        if self._half_closes:
            self._announce_end()

    def _announce_end(self) -> None:
        if self._end_announced:
            return
        self._end_announced = True
        self._backlog.add(make_close(self._new_key()))
        with contextlib.suppress(StreamResetError):  # the peer may be gone already
            self.flush()

    async def aclose(self) -> None:
        self._announce_end()
        await send_close(self, self.flush)
        await self.base.aclose()


@dataclass(frozen=True, slots=True)
class WebSocketLayer(StreamLayer):
    """What to ask for: the ``Host`` (a hidden one behind a front), a path, further headers.

    ``half_closes`` is what the stream must know of the server.
    """

    host: str
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    half_closes: bool = True

    async def start(self, stream: ByteStream) -> WebSocketStream:
        """Ask for a WebSocket on ``stream`` and own it.

        Raises HandshakeError; the stream is then aborted.
        """
        try:
            upgrade = ClientUpgrade(self.host, self.path, self.headers)
            await send_flight(stream, upgrade.request)
            early = None
            while early is None:
                early = upgrade.receive(await receive_flight(stream))
        except BaseException as error:
            stream.abort()
            if isinstance(error, (StreamResetError, ProtocolError)):
                raise HandshakeError(str(error), stage="websocket", errno=error.errno) from error
            raise
        return WebSocketStream(stream, is_client=True, early=early, half_closes=self.half_closes)


async def accept_websocket(stream: ByteStream, key: bytes, early: bytes = b"") -> WebSocketStream:
    """Accept a request with that key, which was read from ``stream``; ``early`` followed it.

    Raises StreamResetError.
    """
    await send_flight(stream, upgrade_answer(key))
    return WebSocketStream(stream, is_client=False, early=early)
