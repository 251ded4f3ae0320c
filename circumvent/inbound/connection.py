"""One client's connection, from its first byte to its last."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from circumvent.api.streams import ByteStream, ReplayableStream
from circumvent.errors import CircumventError, ProtocolError, StreamResetError
from circumvent.inbound.options import InboundOptions
from circumvent.inbound.presence import Presence
from circumvent.layers.exchange import receive
from circumvent.memory import PAGE, Account
from circumvent.wire.address import Destination

T = TypeVar("T")


class Outbound(Protocol):
    """What an inbound hands its clients to."""

    async def carry(
        self,
        client: ReplayableStream,
        destination: Destination,
        accept: Callable[[], Awaitable[None]],
    ) -> None:
        """Carry ``client`` to ``destination`` until both are done.

        Awaits ``accept`` once, when the client may be told that it worked. Raises NoTunnelError,
        BudgetError, DialError, HandshakeError, DestinationError only before that; later trouble
        aborts the client.
        """

    async def open(self, destination: Destination) -> ByteStream:
        """A stream to ``destination``; raises as ``carry``."""


@dataclass(slots=True)
class InboundContext:
    """What all connections of one inbound share.

    One ``scratch`` block serves all handshakes: it is filled and emptied in one turn of the loop.
    """

    outbound: Outbound
    account: Account
    options: InboundOptions
    scratch: memoryview
    is_closing: bool = False


class ClientConnection:
    """A client's stream with its deadline; its methods run in the client's own task.

    ``is_tunnel`` once the client's bytes are passed on whatever they are. ``is_between_messages``
    while the next message of the client has not begun.
    """

    __slots__ = (
        "_deadline",
        "_presence",
        "context",
        "is_between_messages",
        "is_tunnel",
        "stream",
        "task",
    )

    def __init__(
        self, stream: ReplayableStream, presence: Presence, context: InboundContext
    ) -> None:
        self.stream = stream
        self._presence = presence
        self.context = context
        self._deadline = math.inf
        self.is_tunnel = False
        self.is_between_messages = False
        self.task: asyncio.Task[None] | None = None

    def set_deadline(self, seconds: float) -> None:
        """Let ``is_late`` turn true in ``seconds``."""
        self._deadline = time.monotonic() + seconds

    def clear_deadline(self) -> None:
        """Let the client take all the time that it wants."""
        self._deadline = math.inf

    def is_late(self, now: float) -> bool:
        """Whether the deadline has passed at ``now`` (``time.monotonic``)."""
        return now > self._deadline

    def idle_seconds(self) -> float:
        """How long no data went either way."""
        return self._presence.idle_seconds()

    def has_left(self, now: float) -> bool:
        """Whether the client is gone at ``now`` (``time.monotonic``)."""
        return self._presence.has_left(now, is_tunnel=self.is_tunnel)

    def cancel(self) -> None:
        """End the connection; the client sees a reset."""
        if self.task is not None:
            self.task.cancel()

    async def wait_for_message(self) -> None:
        """Wait for the client's next message, without a deadline; draining may end this wait.

        Empty lines do not count: some clients send one behind the body of a POST (RFC 9112 §2.2).
        """
        self.clear_deadline()
        self.is_between_messages = True
        while (received := await self._peek(PAGE)) and not received.strip(b"\r\n"):
            self.stream.discard(len(received))
        self.is_between_messages = False
        self.set_deadline(self.context.options.handshake_seconds)

    async def read_message(self, parse: Callable[[bytes], tuple[T, int] | None], limit: int) -> T:
        """Read one message of at most ``limit`` bytes, and not a byte more.

        ``parse`` gives the message and its length, or None while a part of it is missing; until it
        is complete all of it stays unread. Raises ProtocolError when the client sends something
        else or leaves, StreamResetError.
        """
        is_partial = False
        while True:
            received = await self._peek(limit)
            found = parse(received) if received else None
            if found is not None:
                message, length = found
                if is_partial:
                    self.stream.expect(1)
                self.stream.discard(length)
                return message
            if not received or self.stream.ended:
                raise ProtocolError("the client left in the middle", stage="handshake")
            if len(received) >= limit:
                raise ProtocolError("the client's message never ends", stage="handshake")
            is_partial = True
            self.stream.expect(len(received) + 1)

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
        self.set_deadline(self.context.options.timings.linger)
        try:
            if reply:
                await self.send(reply)
            self.stream.write_eof()
            while await receive(self.stream, self.context.account, PAGE):
                pass
        except StreamResetError:
            pass  # the client did not wait for it

    async def _peek(self, limit: int) -> bytes:
        """What has come so far, left unread; empty at the end of file."""
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
        """Carry the client to ``destination``, or tell it why not.

        ``granted`` is the reply that says it worked; ``refusal`` makes the one that says why not.
        """
        self.clear_deadline()
        self.is_tunnel = True
        is_accepted = False

        async def accept() -> None:
            nonlocal is_accepted
            is_accepted = True
            await self.send(granted)

        try:
            await self.context.outbound.carry(self.stream, destination, accept)
        except CircumventError as error:
            if is_accepted:
                raise
            await self.close_with(refusal(error))
