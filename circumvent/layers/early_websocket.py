"""A WebSocket whose request carries the first bytes: one round trip less.

What follows them waits for the answer; servers refuse frames that come before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from circumvent.api.layer import StreamLayer
from circumvent.api.streams import ByteStream
from circumvent.errors import StreamResetError
from circumvent.layers.websocket import WebSocketLayer, WebSocketStream
from circumvent.net.sockets import send_close
from circumvent.tasks import wake
from circumvent.wire.base64url import encode_base64url
from circumvent.wire.websocket_handshake import PROTOCOL, ClientUpgrade


@dataclass(frozen=True, slots=True)
class EarlyWebSocketLayer(StreamLayer):
    """Asks as ``plain`` does, with up to ``size`` of the first bytes in the header ``header``.

    ``size`` is at least what a layer above puts in front of its first bytes.
    """

    plain: WebSocketLayer
    size: int
    header: str = PROTOCOL

    async def start(self, stream: ByteStream) -> EarlyWebSocketStream:
        """Nothing is sent before the first write."""
        return EarlyWebSocketStream(stream, self)

    def ask(self, data: bytes) -> ClientUpgrade:
        """The request that carries ``data``."""
        early = ((self.header, encode_base64url(data)),) if data else ()
        plain = self.plain
        return ClientUpgrade(plain.host, plain.path, (*plain.headers, *early))


class EarlyWebSocketStream(WebSocketStream):
    """Asks with the first write; the answer comes to a reader, who wakes the writer."""

    __slots__ = ("_is_open", "_layer", "_upgrade", "_waits_to_end", "_writer")

    def __init__(self, base: ByteStream, layer: EarlyWebSocketLayer) -> None:
        super().__init__(base, is_client=True, half_closes=layer.plain.half_closes)
        self._layer = layer
        self._upgrade: ClientUpgrade | None = None
        self._is_open = False
        self._waits_to_end = False
        self._writer: asyncio.Future[None] | None = None

    def read_into(self, buffer: memoryview) -> int | None:
        if self._is_open:
            return super().read_into(buffer)
        count = self.base.read_into(buffer)
        if count is None:
            return None
        if self._upgrade is None:
            raise StreamResetError("connection lost: it was cut, before a request", stage="read")
        early = self._upgrade.receive(bytes(buffer[:count]))
        if early is None:
            return None
        self._early = early
        self._open()
        return super().read_into(buffer) if early else None

    def _open(self) -> None:
        self._is_open = True
        wake(self._writer)
        if self._waits_to_end:
            super().write_eof()

    def room(self) -> int:
        if self._is_open:
            return super().room()
        return 0 if self._upgrade else min(self._layer.size, self._backlog.room())

    def wait_writable(self) -> Awaitable[None]:
        if self._is_open or self._upgrade is None or self._backlog:
            return super().wait_writable()
        self._writer = waiter = asyncio.get_running_loop().create_future()
        return waiter

    def write(self, block: memoryview, start: int, end: int) -> int:
        if self._is_open:
            return super().write(block, start, end)
        if self._upgrade:
            self.flush()
            return 0
        size = min(end - start, self._layer.size)
        self._upgrade = self._layer.ask(bytes(block[start : start + size]))
        self._backlog.add(self._upgrade.request)
        self._backlog.flush()
        return size

    def flush(self) -> bool:
        return self._backlog.flush() and (self._is_open or not self._waits_to_end)

    def write_eof(self) -> None:
        if self._is_open:
            super().write_eof()
        else:
            self._waits_to_end = True

    async def aclose(self) -> None:
        if self._is_open:
            await super().aclose()
            return
        await send_close(self.base, self._backlog.flush)
        self._waits_to_end = False  # before the answer no frame may be sent
        self._open()
        await self.base.aclose()

    def abort(self) -> None:
        super().abort()
        self._waits_to_end = False
        self._open()
