"""One client's connection, from its first byte to its last."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from circumvent.api.exchange import receive
from circumvent.api.streams import ByteStream, PeekStream
from circumvent.errors import CircumventError, ProtocolError, StreamResetError
from circumvent.memory import PAGE, Account
from circumvent.net.tcp import TcpStream
from circumvent.proxy.kernel import idle_seconds
from circumvent.proxy.options import DoorOptions
from circumvent.wire.address import Destination

LINGER_SECONDS = 2.0  # for the last words to arrive; the client has long got them or is gone

T = TypeVar("T")


class Dispatcher(Protocol):
    """What the front door needs from the tunnels."""

    async def relay(
        self,
        client: PeekStream,
        destination: Destination,
        accept: Callable[[], Awaitable[None]],
    ) -> None:
        """Carry ``client`` to ``destination`` until both are done.

        Awaits ``accept`` once, when the client shall hear that it worked. Raises NoTunnelError,
        DialError, HandshakeError, DestinationError only before that; later trouble aborts
        the client.
        """

    async def open(self, destination: Destination) -> ByteStream:
        """A stream to ``destination``; raises as ``relay``."""


@dataclass(slots=True)
class House:
    """What all visits share.

    One ``scratch`` block serves all handshakes: it is filled and emptied in one turn of the loop.
    """

    dispatcher: Dispatcher
    account: Account
    options: DoorOptions
    scratch: memoryview
    closing: bool = False


class Visit:
    """A client's stream with its deadline; its methods run in the client's own task."""

    __slots__ = ("_deadline", "_sock", "house", "resting", "stream", "task")

    def __init__(self, sock: socket.socket, house: House) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._deadline = math.inf
        self.house = house
        self.stream = TcpStream(sock)
        self.task: asyncio.Task[None] | None = None
        self.resting = False

    def hurry(self, seconds: float) -> None:
        """Let ``is_late`` say so in ``seconds``, unless ``relax`` is called before."""
        self._deadline = time.monotonic() + seconds

    def relax(self) -> None:
        """Drop the deadline."""
        self._deadline = math.inf

    def is_late(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return now > self._deadline

    def cut(self) -> None:
        """End the visit; the client sees a reset."""
        if self.task is not None:
            self.task.cancel()

    def idle_seconds(self) -> float:
        """How long no data went either way."""
        return idle_seconds(self._sock)

    async def rest(self) -> None:
        """Wait for the client's next message, without deadline; ``drain`` may cut a rest."""
        self.relax()
        self.resting = True
        await self._peek(1)
        self.resting = False
        self.hurry(self.house.options.handshake_seconds)

    async def take(self, parse: Callable[[bytes], tuple[T, int] | None], limit: int) -> T:
        """Read one message of at most ``limit`` bytes, and not a byte more.

        Raises ProtocolError when the client sends something else or leaves, StreamResetError.
        """
        held = b""
        while True:
            fresh = await self._peek(limit - len(held))
            if not fresh:
                raise ProtocolError("the client left in the middle", stage="handshake")
            found = parse(held + fresh)
            if found is not None:
                message, length = found
                self.stream.discard(max(0, length - len(held)))
                return message
            # Without its end, all that came belongs to the message.
            self.stream.discard(len(fresh))
            held += fresh
            if len(held) >= limit:
                raise ProtocolError("the client's message never ends", stage="handshake")

    async def say(self, reply: bytes) -> None:
        """Send ``reply``; raises StreamResetError.

        What the kernel does not take at once waits in ``reply`` itself: no block is needed.
        """
        self.stream.write(memoryview(reply), 0, len(reply))
        while not self.stream.flush():
            await self.stream.wait_writable()

    async def farewell(self, reply: bytes) -> None:
        """Send the last ``reply`` and close so that it arrives.

        A socket that is closed with unread bytes sends a reset, which may overtake the reply.
        """
        self.hurry(LINGER_SECONDS)
        try:
            if reply:
                await self.say(reply)
            self.stream.write_eof()
            while await receive(self.stream, self.house.account, PAGE):
                pass
        except StreamResetError:
            pass  # the client did not wait for it

    async def _peek(self, limit: int) -> bytes:
        """What came so far, left unread in the kernel; empty at the end of file."""
        scratch = self.house.scratch
        while True:
            await self.stream.wait_readable()
            count = self.stream.peek_into(scratch[:limit])
            if count is not None:
                return bytes(scratch[:count])

    async def relay(
        self,
        destination: Destination,
        granted: bytes,
        refusal: Callable[[CircumventError], bytes],
    ) -> None:
        """Carry the client to ``destination``, or tell it why not."""
        self.relax()
        accepted = False

        async def accept() -> None:
            nonlocal accepted
            accepted = True
            await self.say(granted)

        try:
            await self.house.dispatcher.relay(self.stream, destination, accept)
        except CircumventError as error:
            if accepted:
                raise
            await self.farewell(refusal(error))
