"""The header that a VLESS server puts in front of what it sends."""

from __future__ import annotations

from circumvent.api import (
    ByteStream,
    LayerStream,
    ProtocolError,
    StreamLayer,
    StreamResetError,
)

VERSION = 0


class ResponseLayer(StreamLayer):
    """Takes the server's response header off what comes back."""

    async def start(self, stream: ByteStream) -> ByteStream:
        return ResponseStream(stream)


class ResponseStream(LayerStream):
    """Drops the response header ``00 | n | n bytes``, in however many pieces it arrives."""

    def __init__(self, base: ByteStream) -> None:
        super().__init__(base)
        self._seen = 0
        self._size = 2  # grows when the length byte is seen

    def read_into(self, buffer: memoryview) -> int | None:
        count = self.base.read_into(buffer)
        if count is None or self._seen == self._size:
            return count
        if count == 0 and self._seen:
            raise StreamResetError(
                "connection lost: it was cut, inside VLESS's response header", stage="read"
            )
        return self._strip(buffer, count) if count else 0

    def _strip(self, buffer: memoryview, count: int) -> int | None:
        taken = 0
        while taken < count and self._seen < self._size:
            self._accept(buffer[taken])
            taken += 1
        rest = count - taken
        buffer[:rest] = buffer[taken:count]
        return rest or None

    def _accept(self, byte: int) -> None:
        if self._seen == 0 and byte != VERSION:
            raise ProtocolError("VLESS: a response of an unknown version", stage="response")
        if self._seen == 1:
            self._size += byte
        self._seen += 1
