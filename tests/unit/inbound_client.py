"""An inbound that leads straight to local destinations, and clients of it."""

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from circumvent.api.streams import ByteStream, ReplayableStream
from circumvent.errors import CircumventError, DestinationError, DialError, Reason
from circumvent.inbound.inbound import Inbound
from circumvent.inbound.options import Credentials, InboundOptions
from circumvent.memory import Account, Memory
from circumvent.net.pump import pump
from circumvent.net.tcp import connect
from circumvent.wire.address import Destination

SITE = "site.test"  # a name that only the far side resolves
GREETING = b"\x05\x01\x00"  # SOCKS5 without a password
RESET = struct.pack("ii", 1, 0)
CREDENTIALS = Credentials("me", "s:cret")
BUDGET = 4 << 20

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class DirectOutbound:
    """An outbound without tunnels: dials the destination from here; all names mean loopback."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.asked: list[Destination] = []
        self.failure: CircumventError | None = None

    async def open(self, destination: Destination) -> ByteStream:
        self.asked.append(destination)
        if self.failure:
            raise self.failure
        host = "127.0.0.1" if destination.host.endswith(".test") else destination.host
        try:
            return await connect(host, destination.port)
        except DialError as error:
            refused = error.errno == errno.ECONNREFUSED
            raise DestinationError(Reason.REFUSED if refused else Reason.FAILURE) from error

    async def carry(
        self,
        client: ReplayableStream,
        destination: Destination,
        accept: Callable[[], Awaitable[None]],
    ) -> None:
        far = await self.open(destination)
        try:
            await accept()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(pump(client, far, self.account, self._moved))
                tasks.create_task(pump(far, client, self.account, self._moved))
        except* CircumventError:
            client.abort()
            far.abort()
        finally:
            await far.aclose()

    def _moved(self, count: int) -> None:
        """Nobody counts here."""


class RunningInbound:
    """An inbound that listens, its outbound and memory, and ways to connect."""

    def __init__(self, server: Inbound, outbound: DirectOutbound, memory: Memory) -> None:
        self.server = server
        self.outbound = outbound
        self.memory = memory

    @property
    def port(self) -> int:
        return self.server.addresses[0][1]

    async def connect(self) -> "Client":
        host, port = self.server.addresses[0]
        return Client(*await asyncio.open_connection(host, port))


class Client:
    """A client of the inbound."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    async def receive_all(self) -> bytes:
        """Everything up to the end; raises ConnectionResetError on a reset."""
        return await self.reader.read()

    async def send_slowly(self, data: bytes) -> None:
        """One byte at a time, each in a packet of its own."""
        for byte in data:
            await self.send(bytes((byte,)))
            await asyncio.sleep(0.002)

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()


@asynccontextmanager
async def running_inbound(options: InboundOptions | None = None) -> AsyncIterator[RunningInbound]:
    """Start an inbound; at the end no client is left and no memory is in use."""
    memory = Memory(BUDGET, poison=True)
    outbound = DirectOutbound(memory.account("tunnels"))
    server = Inbound(outbound, memory.account("inbound"), options or InboundOptions(port=0))
    server.start()
    try:
        yield RunningInbound(server, outbound, memory)
    finally:
        await server.aclose()
    assert server.clients == 0
    assert memory.leased == 0
    assert memory.charged == 0


@asynccontextmanager
async def destination(talk: Conversation, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server that runs ``talk`` on every connection; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the test knows what its clients do
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back; at the end of the input say so and close."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"the end")
    await writer.drain()


async def cut_short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset the connection once something came."""
    await reader.readexactly(1)
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


def socks5(host: str, port: int) -> bytes:
    """A SOCKS5 CONNECT."""
    return b"\x05\x01\x00" + Destination(host, port).encode()


def socks4a(host: str, port: int) -> bytes:
    """A SOCKS4a CONNECT."""
    return b"\x04\x01" + port.to_bytes(2) + b"\x00\x00\x00\x01me\x00" + host.encode() + b"\x00"
