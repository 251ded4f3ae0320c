"""A WebSocket whose request carries the first bytes: one round trip less.

What follows them waits for the answer; servers refuse frames that come before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from circumvent.api.layer import StreamLayer
from circumvent.api.streams import ByteStream
from circumvent.errors import ProtocolError, StreamResetError
from circumvent.layers.exchange import receive_some
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
    """Asks with the first write; whoever waits first looks for the answer."""

    __slots__ = ("_failure", "_is_open", "_layer", "_looker", "_upgrade", "_waits_to_end")

    def __init__(self, base: ByteStream, layer: EarlyWebSocketLayer) -> None:
        super().__init__(base, is_client=True, half_closes=layer.plain.half_closes)
        self._layer = layer
        self._upgrade: ClientUpgrade | None = None
        self._is_open = False
        self._failure: StreamResetError | ProtocolError | None = None
        self._waits_to_end = False
        self._looker: asyncio.Future[None] | None = None

    def wait_readable(self) -> Awaitable[None]:
        is_settled = self._is_open or self._failure is not None
        return super().wait_readable() if is_settled else self._wait_for_answer()

    def wait_writable(self) -> Awaitable[None]:
        is_asked = self._upgrade is not None and not self._backlog
        is_settled = self._is_open or self._failure is not None
        waits = is_asked and not is_settled
        return self._wait_for_answer() if waits else super().wait_writable()

    async def _wait_for_answer(self) -> None:
        """Return after some of it came.

        A reader, who may wait since before the request, and a writer wait at the base together:
        that knows only one of them.
        """
        if self._looker is not None:
            await asyncio.shield(self._looker)
            return
        self._looker = looker = asyncio.get_running_loop().create_future()
        try:
            await self.base.wait_readable()
            self._look()
        finally:
            self._looker = None
            wake(looker)

    def _look(self) -> None:
        if self._is_open or self._upgrade is None:
            return
        try:
            data = receive_some(self.base)
            early = None if data is None else self._upgrade.receive(data)
        except (StreamResetError, ProtocolError) as error:
            self._failure = error
            return
        if early is not None:
            self._early = early
            self._open()

    def _open(self) -> None:
        self._is_open = True
        if self._waits_to_end:
            super().write_eof()

    def read_into(self, buffer: memoryview) -> int | None:
        if self._is_open:
            return super().read_into(buffer)
        if self._upgrade is None:
            self._check_silence(buffer)
            return None
        self._look()
        if self._failure is not None:
            raise self._failure
        return super().read_into(buffer) if self._early else None

    def _check_silence(self, buffer: memoryview) -> None:
        if self.base.read_into(buffer) is not None:
            raise StreamResetError("connection lost: it was cut, before a request", stage="read")

    def room(self) -> int:
        if self._is_open:
            return super().room()
        if self._failure:
            return 1  # the write will raise it
        return 0 if self._upgrade else min(self._layer.size, self._backlog.room())

    def write(self, block: memoryview, start: int, end: int) -> int:
        if self._is_open:
            return super().write(block, start, end)
        if self._failure:
            raise StreamResetError(str(self._failure), stage="write") from self._failure
        if self._upgrade:
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
            self._waits_to_end = self._half_closes

    async def aclose(self) -> None:
        if not self._is_open:
            await send_close(self.base, self._backlog.flush)
            self._forget_answer()
            await self.base.aclose()
            return
        await super().aclose()

    def abort(self) -> None:
        super().abort()
        self._forget_answer()

    def _forget_answer(self) -> None:
        """Before the answer no frame may be sent; the base tells what became of it."""
        self._waits_to_end = False
        self._end_announced = True
        self._is_open = True
