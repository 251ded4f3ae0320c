"""One client's connection, from its first byte to its last."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from circumvent.api.streams import ByteStream, PeekStream
from circumvent.errors import CircumventError, ProtocolError, StreamResetError
from circumvent.inbound.kernel import Peer, idle_seconds, look_at_peer, unread_bytes
from circumvent.inbound.options import InboundOptions
from circumvent.layers.exchange import receive
from circumvent.memory import PAGE, Account
from circumvent.net.readiness import Watch, watch
from circumvent.net.tcp import TcpStream
from circumvent.wire.address import Destination

LINGER_SECONDS = 2.0  # for the last words to arrive; the client has long got them or is gone
# Some send a file and close. What they said goes on its way, as long as it moves.
DELIVERY_SECONDS = 3.0
# For a client on another machine that said its end and then nothing, which may be both. Whoever
# waits for an answer so long has given up: most servers and proxies do after one minute.
HALF_CLOSED_SECONDS = 120.0

T = TypeVar("T")


class Outbound(Protocol):
    """What the front door needs from the tunnels."""

    async def carry(
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
        """A stream to ``destination``; raises as ``carry``."""


@dataclass(slots=True)
class InboundContext:
    """What all connections share.

    One ``scratch`` block serves all handshakes: it is filled and emptied in one turn of the loop.
    """

    dispatcher: Outbound
    account: Account
    options: InboundOptions
    scratch: memoryview
    closing: bool = False


class _ClientStream(TcpStream):
    """``is_heard_out`` once its end was read: pumps read it when all before was passed on."""

    __slots__ = ("is_heard_out",)

    def __init__(self, sock: socket.socket, ready: Watch) -> None:
        super().__init__(sock, ready)
        self.is_heard_out = False

    def read_into(self, buffer: memoryview) -> int | None:
        count = super().read_into(buffer)
        if count == 0:
            self.is_heard_out = True
        return count


class ClientConnection:
    """A client's stream with its deadline; its methods run in the client's own task.

    ``is_tunnel`` once the client's bytes are passed on whatever they are.
    """

    __slots__ = (
        "_deadline",
        "_moved_at",
        "_sock",
        "_unread",
        "_watch",
        "context",
        "is_between_messages",
        "is_tunnel",
        "stream",
        "task",
    )

    def __init__(self, sock: socket.socket, context: InboundContext) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._watch = watch(sock.fileno())
        self._deadline = math.inf
        self.is_tunnel = False
        self._unread = -1
        self._moved_at = 0.0
        self.context = context
        self.stream = _ClientStream(sock, self._watch)
        self.task: asyncio.Task[None] | None = None
        self.is_between_messages = False

    def set_deadline(self, seconds: float) -> None:
        """Let ``is_late`` say so in ``seconds``, unless ``clear_deadline`` is called before."""
        self._deadline = time.monotonic() + seconds

    def clear_deadline(self) -> None:
        """Drop the deadline."""
        self._deadline = math.inf

    def is_late(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return now > self._deadline

    def cancel(self) -> None:
        """End the connection; the client sees a reset."""
        if self.task is not None:
            self.task.cancel()

    def idle_seconds(self) -> float:
        """How long no data went either way."""
        return idle_seconds(self._sock)

    def has_left(self, now: float) -> bool:
        """Whether nobody is there any more; the kernel is asked only where there is a sign of it.

        That is an end, or bytes that nobody reads: behind those, an end may not have got through.
        """
        if not (self._watch.ended or self._watch.readable):
            return False
        peer = look_at_peer(self._sock)
        if peer is Peer.UNSEEN:
            return self.idle_seconds() > HALF_CLOSED_SECONDS
        if peer is Peer.LEFT and self.is_tunnel and not self.stream.is_heard_out:
            return self._is_stalled(now)
        return peer is not Peer.HERE

    def _is_stalled(self, now: float) -> bool:
        """Whether what the client left behind has stopped to move."""
        unread = unread_bytes(self._sock)
        if unread != self._unread:
            self._unread, self._moved_at = unread, now
        return now - self._moved_at > DELIVERY_SECONDS

    async def wait_for_message(self) -> None:
        """Wait for the client's next message, without deadline; ``drain`` may cut a rest.

        Empty lines are none: some clients send one behind the body of a POST (RFC 9112 §2.2).
        """
        self.clear_deadline()
        self.is_between_messages = True
        while (come := await self._peek(PAGE)) and not come.strip(b"\r\n"):
            self.stream.discard(len(come))
        self.is_between_messages = False
        self.set_deadline(self.context.options.handshake_seconds)

    async def read_message(self, parse: Callable[[bytes], tuple[T, int] | None], limit: int) -> T:
        """Read one message of at most ``limit`` bytes, and not a byte more.

        As long as a part is missing the rest of it stays in the kernel. Raises ProtocolError when
        the client sends something else or leaves, StreamResetError.
        """
        while True:
            come = await self._peek(limit)
            found = parse(come) if come else None
            if found is not None:
                message, length = found
                self.stream.discard(length)
                return message
            if not come or self.stream.ended:
                raise ProtocolError("the client left in the middle", stage="handshake")
            if len(come) >= limit:
                raise ProtocolError("the client's message never ends", stage="handshake")
            self._watch.drained()  # until more is there

    async def send(self, reply: bytes) -> None:
        """Send ``reply``; raises StreamResetError.

        What the kernel does not take at once waits in ``reply`` itself: no block is needed.
        """
        self.stream.write(memoryview(reply), 0, len(reply))
        while not self.stream.flush():
            await self.stream.wait_writable()

    async def close_with(self, reply: bytes) -> None:
        """Send the last ``reply`` and close so that it arrives.

        A socket that is closed with unread bytes sends a reset, which may overtake the reply.
        """
        self.set_deadline(LINGER_SECONDS)
        try:
            if reply:
                await self.send(reply)
            self.stream.write_eof()
            while await receive(self.stream, self.context.account, PAGE):
                pass
        except StreamResetError:
            pass  # the client did not wait for it

    async def _peek(self, limit: int) -> bytes:
        """What came so far, left unread in the kernel; empty at the end of file."""
        scratch = self.context.scratch
        while True:
            await self.stream.wait_readable()
            count = self.stream.peek_into(scratch[:limit])
            if count is not None:
                return bytes(scratch[:count])

    async def carry(
        self,
        destination: Destination,
        granted: bytes,
        refusal: Callable[[CircumventError], bytes],
    ) -> None:
        """Carry the client to ``destination``, or tell it why not."""
        self.clear_deadline()
        self.is_tunnel = True
        accepted = False

        async def accept() -> None:
            nonlocal accepted
            accepted = True
            await self.send(granted)

        try:
            await self.context.dispatcher.carry(self.stream, destination, accept)
        except CircumventError as error:
            if accepted:
                raise
            await self.close_with(refusal(error))
