"""Streams that end where an HTTP message in them ends."""

from __future__ import annotations

from collections.abc import Awaitable

from circumvent.api.layer import LayerStream
from circumvent.api.streams import ByteStream, ReplayableStream
from circumvent.net.readiness import NOW
from circumvent.wire.http_bodies import Body


class BodyStream(LayerStream):
    """The body of a message whose stream carries nothing else after it."""

    __slots__ = ("_body",)
    is_strict = True  # what is read beyond the sink's room would only have to be kept

    def __init__(self, base: ByteStream, body: Body) -> None:
        super().__init__(base)
        self._body = body

    def wait_readable(self) -> Awaitable[None]:
        return NOW if self._body.is_over else self.base.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        if self._body.is_over:
            return 0
        count = self.base.read_into(buffer)
        if count:
            # All of it may be framing, which is not for the reader: then nothing has come yet.
            return self._body.take(buffer[:count]) or None
        if count == 0:
            self._body.end()
        return count


class RequestBodyStream(BodyStream):
    """The body of a client's request; what follows it stays unread: it is the next request."""

    __slots__ = ("_client",)

    def __init__(self, client: ReplayableStream, body: Body) -> None:
        super().__init__(client, body)
        self._client = client

    def read_into(self, buffer: memoryview) -> int | None:
        if self._body.is_over:
            return 0
        count = self._client.peek_into(buffer)
        if count:
            count = self._body.take(buffer[:count])
            self._client.discard(count)
        elif count == 0:
            self._body.end()
        return count
