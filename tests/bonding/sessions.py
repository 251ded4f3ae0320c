"""Two sessions over real sockets, in one process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from circumvent.api import ByteStream, StreamResetError
from circumvent.memory import Memory
from circumvent.net.tcp import TcpStream
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.session import Session
from circumvent.session.session_stream import SessionStream
from circumvent.testing.far_end import Codec, FarEnd, connected
from circumvent.testing.steps import read_all, read_exactly, read_once, settle, write_all

BUFFER = 128 * 1024
OPENING = b"somewhere"


@dataclass(eq=False)
class Bond:
    """Both ends; ``opened`` are the streams that the relay was asked for."""

    client: Session
    relay: Session
    memories: tuple[Memory, Memory]
    opened: asyncio.Queue[tuple[SessionStream, bytes]]
    sockets: dict[int, tuple[socket.socket, socket.socket]] = field(default_factory=dict)
    number: int = 0

    def attach(self, wrap: Callable[[ByteStream], ByteStream] = lambda stream: stream) -> int:
        """One more carrier over loopback; returns its number."""
        self.number += 1
        near, far = connected(small=BUFFER, receive=BUFFER)
        far.setblocking(False)
        self.sockets[self.number] = near, far
        self.client.attach(self.number, wrap(TcpStream(near)), 0.001)
        self.relay.attach(self.number, wrap(TcpStream(far)), 0.001)
        return self.number

    async def open(self) -> tuple[SessionStream, SessionStream]:
        """A stream, seen from the client and from the relay."""
        near = self.client.open(OPENING)
        near.write(memoryview(b""), 0, 0)
        async with asyncio.timeout(5):
            far, opening = await self.opened.get()
        assert opening == OPENING
        return near, far


@asynccontextmanager
async def bond(carriers: int = 2, limits: SessionLimits | None = None) -> AsyncIterator[Bond]:
    limits = limits or SessionLimits(send=1 << 20, receive=2 << 20)
    memories = Memory(8 << 20, poison=True), Memory(8 << 20, poison=True)
    opened: asyncio.Queue[tuple[SessionStream, bytes]] = asyncio.Queue()
    accounts = [memory.account("session") for memory in memories]
    both = Bond(
        Session(accounts[0], limits, is_client=True),
        Session(accounts[1], limits, is_client=False, opened=lambda *what: opened.put_nowait(what)),
        memories,
        opened,
    )
    for _ in range(carriers):
        both.attach()
    try:
        yield both
    finally:
        await both.client.aclose()
        await both.relay.aclose()
        assert [account.leased for account in accounts] == [0, 0]


class SessionEnd(FarEnd):
    """The far end of a stream under test is a stream of the other session."""

    def __init__(self, stream: SessionStream) -> None:
        self.stream = stream
        self.codec = Codec()
        self._over = False

    async def send_wire(self, wire: bytes, *, piece: int = BUFFER) -> None:
        await write_all(self.stream, wire, piece)

    async def receive(self, size: int) -> bytes:
        with self.as_a_socket():
            return await read_exactly(self.stream, size)

    async def receive_all(self) -> bytes:
        with self.as_a_socket():
            return await read_all(self.stream)

    async def step(self) -> None:
        with self.as_a_socket():
            await read_once(self.stream)

    @staticmethod
    @contextmanager
    def as_a_socket() -> Iterator[None]:
        """Report resets as a socket would."""
        try:
            yield
        except StreamResetError as error:
            raise ConnectionResetError from error

    async def end(self) -> None:
        self.stream.write_eof()
        await settle(self.stream)

    def reset(self) -> None:
        self.stream.abort()

    def close(self) -> None:
        self.stream.abort()
