"""A toy: every byte is XORed with a key, which both ends know. Links ask for it by ``type=xor``."""

from __future__ import annotations

from dataclasses import dataclass, field

from circumvent.api import ByteStream, Layer, LayerStream, LinkError, StreamLayer
from circumvent.links.carriages import CARRIAGES, Parameters
from circumvent.links.query import LinkQuery


class XorStream(LayerStream):
    """Offers the base no more than it has room for: what was transformed must be taken."""

    def __init__(self, base: ByteStream, key: int) -> None:
        super().__init__(base)
        self._table = bytes(byte ^ key for byte in range(256))

    def read_into(self, buffer: memoryview) -> int | None:
        count = self.base.read_into(buffer)
        if count:
            buffer[:count] = bytes(buffer[:count]).translate(self._table)
        return count

    def write(self, block: memoryview, start: int, end: int) -> int:
        end = min(end, start + self.room())
        block[start:end] = bytes(block[start:end]).translate(self._table)
        taken = self.base.write(block, start, end)
        assert taken == end - start
        return taken


@dataclass(frozen=True, slots=True)
class XorLayer(StreamLayer):
    """``key``: 0 to 255."""

    key: int = field(repr=False)

    async def start(self, stream: ByteStream) -> XorStream:
        return XorStream(stream, self.key)


@dataclass(frozen=True, slots=True)
class XorCarriage:
    """``type=xor&key=…``."""

    key: int = field(repr=False)
    alpn: tuple[str, ...] = ()

    def layers(self) -> tuple[Layer, ...]:
        return (XorLayer(self.key),)

    def query(self) -> Parameters:
        return ("type", "xor"), ("key", str(self.key))


def take_xor(query: LinkQuery, host: str) -> XorCarriage:  # noqa: ARG001 - it asks for no name
    """Raises LinkError."""
    key = query.take_word("key")
    if not key.isdecimal() or int(key) > 255:
        raise LinkError("key: is a number from 0 to 255")
    return XorCarriage(int(key))


WITH_XOR = {**CARRIAGES, "xor": take_xor}
