"""Streams that one HTTP request opens and that are bare after its answer's head.

HTTPUpgrade, and TCP with an HTTP header: their servers look like web servers to who reads the first
bytes only.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from circumvent.api.layer import HeaderStream, LayerStream, StreamLayer
from circumvent.api.streams import ByteStream
from circumvent.errors import HandshakeError, ProtocolError, StreamResetError
from circumvent.layers.exchange import receive_flight, send_flight
from circumvent.net.readiness import NOW
from circumvent.wire.browser import USER_AGENT, upgrade_headers
from circumvent.wire.http_answer import AnswerReader, HttpHeader, HttpUpgrade, format_request


class AnsweredStream(LayerStream):
    """Takes the head of the answer off what comes back, whenever that comes."""

    __slots__ = ("_answer",)

    def __init__(self, base: ByteStream, answer: AnswerReader) -> None:
        super().__init__(base)
        self._answer: AnswerReader | None = answer

    def read_into(self, buffer: memoryview) -> int | None:
        count = self.base.read_into(buffer)
        if self._answer is None or count is None:
            return count
        if not count:
            return self._end(self._answer)
        rest = self._answer.receive(bytes(buffer[:count]))
        if rest is None:
            return None
        self._answer = None
        buffer[: len(rest)] = rest
        return len(rest) or None

    @staticmethod
    def _end(answer: AnswerReader) -> int:
        """A server that has nothing to send sends no head."""
        if answer.began:
            raise StreamResetError(
                "connection lost: it was cut, inside the head of the answer", stage="read"
            )
        return 0


class PrefixedStream(LayerStream):
    """Returns ``early``, which was read already, before what the base has."""

    __slots__ = ("_early",)

    def __init__(self, base: ByteStream, early: bytes) -> None:
        super().__init__(base)
        self._early = early

    def wait_readable(self) -> Awaitable[None]:
        return NOW if self._early else self.base.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        if not self._early:
            return self.base.read_into(buffer)
        size = min(len(buffer), len(self._early))
        buffer[:size], self._early = self._early[:size], self._early[size:]
        return size


@dataclass(frozen=True, slots=True)
class HttpUpgradeLayer(StreamLayer):
    """What to ask for; ``waits`` for the answer unless the server is known to take early data."""

    host: str
    path: str = "/"
    waits: bool = True

    async def start(self, stream: ByteStream) -> ByteStream:
        """Ask for an upgrade on ``stream`` and own it; raises HandshakeError and aborts then."""
        answer, request = HttpUpgrade(), upgrade_request(self.host, self.path)
        if not self.waits:
            return HeaderStream(AnsweredStream(stream, answer), request)
        try:
            await send_flight(stream, request)
            early = None
            while early is None:
                early = answer.receive(await receive_flight(stream))
        except BaseException as error:
            stream.abort()
            if isinstance(error, (StreamResetError, ProtocolError)):
                raise HandshakeError(str(error), stage="upgrade", errno=error.errno) from error
            raise
        return PrefixedStream(stream, early)


@dataclass(frozen=True, slots=True)
class HttpHeaderLayer(StreamLayer):
    """What the page is called that the first bytes seem to ask for."""

    host: str
    path: str = "/"

    async def start(self, stream: ByteStream) -> ByteStream:
        """Nothing is sent before the first write, with which the header goes."""
        return HeaderStream(
            AnsweredStream(stream, HttpHeader()), page_request(self.host, self.path)
        )


def upgrade_request(host: str, path: str) -> bytes:
    """The head of the request, in the order of Chrome; a key would make it a real WebSocket's."""
    agent, origin, *accepts = upgrade_headers(host)
    headers = [
        ("Host", host),
        ("Connection", "Upgrade"),
        ("Pragma", "no-cache"),
        ("Cache-Control", "no-cache"),
        agent,
        ("Upgrade", "websocket"),
        origin,
        *accepts,
    ]
    return format_request(path, headers)


def page_request(host: str, path: str) -> bytes:
    """The head of a request as v2ray's servers expect it by default."""
    headers = [
        ("Host", host),
        ("User-Agent", USER_AGENT),
        ("Accept-Encoding", "gzip, deflate"),
        ("Connection", "keep-alive"),
        ("Pragma", "no-cache"),
    ]
    return format_request(path, headers)
