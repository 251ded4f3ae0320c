"""Layers: what turns streams into other streams (TLS, WebSocket, a proxy's header)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from circumvent.api.cost import Cost
from circumvent.api.dialer import Dialer
from circumvent.api.streams import ByteStream, Vitals

Dial = Callable[[], Awaitable[ByteStream]]  # gives a new stream; raises DialError, HandshakeError


class Layer(ABC):
    """A layer, with all that it needs to know: a value that is used for every dial."""

    @property
    def cost(self) -> Cost:
        """The most that it allocates outside of the arena, per dial and per open stream."""
        return Cost(0, 0)

    def through(self, dialer: Dialer) -> Layer:  # noqa: ARG002 - most layers need none
        """The layer that gets by ``dialer`` what it must look up; most look nothing up."""
        return self

    @abstractmethod
    def over(self, dial: Dial) -> Dial:
        """Dials through this layer over what ``dial`` gives.

        It raises what ``dial`` raises, and HandshakeError. A layer that gives many streams over
        one connection keeps that connection here.
        """


class StreamLayer(Layer):
    """A layer that gives one stream for each that it is given: most do."""

    @abstractmethod
    async def start(self, stream: ByteStream) -> ByteStream:
        """Start over ``stream`` and own it; raises HandshakeError.

        After an error ``stream`` is closed.
        """

    def over(self, dial: Dial) -> Dial:
        async def dial_and_start() -> ByteStream:
            return await self.start(await dial())

        return dial_and_start


class LayerStream(ByteStream):
    """A layer that passes everything on to its base; override what it transforms."""

    __slots__ = ("base",)

    def __init__(self, base: ByteStream) -> None:
        self.base = base
        self.headroom = base.headroom
        self.record = base.record
        self.overhead = base.overhead
        self.route = base.route.inside

    # Handed through, not awaited: a coroutine per layer would stay in memory while it waits.

    def wait_readable(self) -> Awaitable[None]:
        return self.base.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        return self.base.read_into(buffer)

    def room(self) -> int:
        return self.base.room()

    def wait_writable(self) -> Awaitable[None]:
        return self.base.wait_writable()

    def write(self, block: memoryview, start: int, end: int) -> int:
        return self.base.write(block, start, end)

    @property
    def unsent(self) -> memoryview | None:
        return self.base.unsent

    @unsent.setter
    def unsent(self, view: memoryview | None) -> None:
        self.base.unsent = view

    def flush(self) -> bool:
        return self.base.flush()

    def write_eof(self) -> None:
        self.base.write_eof()

    async def aclose(self) -> None:
        await self.base.aclose()

    def abort(self) -> None:
        self.base.abort()

    def vitals(self) -> Vitals | None:
        return self.base.vitals()

    def unacknowledged(self) -> int:
        return self.base.unacknowledged()

    def ask_for_sign(self, *, wanted: bool) -> None:
        self.base.ask_for_sign(wanted=wanted)


class HeaderStream(LayerStream):
    """Puts ``header`` in front of the first write, in one flight with its data.

    Most proxy protocols open a stream this way; sending both together saves a packet whose
    length would give the protocol away.
    """

    def __init__(self, base: ByteStream, header: bytes) -> None:
        super().__init__(base)
        self._header = header
        self.headroom = base.headroom + len(header)

    def write(self, block: memoryview, start: int, end: int) -> int:
        if not self._header:
            return self.base.write(block, start, end)
        size = len(self._header)
        block[start - size : start] = self._header
        self._header = b""
        self.headroom = self.base.headroom
        return self.base.write(block, start - size, end) - size
