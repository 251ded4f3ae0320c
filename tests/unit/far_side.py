"""Proxy servers in memory that can be killed, frozen or made to lie, and a transport to them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count

from circumvent.api import Cost, Dialer, Privacy, ServerEntry, Transport, Tunnel
from circumvent.api.layer import HeaderStream
from circumvent.api.streams import ByteStream
from circumvent.memory import Account
from circumvent.tunnels.candidate import Candidate
from circumvent.wire.address import Destination
from tests.virtual.network import Listener
from tests.virtual.stream import End, MemoryStream

PROBE, OTHER_PROBE = "probe.test", "other-probe.test"
GOOD_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
SECRET = "s3cret"
DIAL, STREAM = 16 << 10, 8 << 10  # bytes that the transport of these tests declares
_numbers = count(1)


class FarStream(End):
    """One stream as its destination sees it; behind a frozen node it sends and receives nothing."""

    def __init__(self, node: "Node", stream: MemoryStream) -> None:
        super().__init__(stream)
        self._node = node
        self.host = ""
        self.first = b""  # what the first packet brought, header and all
        self.received = b""
        self._kept = b""

    async def receive(self, at_least: int = 1) -> bytes:
        data = b""
        while len(data) < at_least:
            await self._node.thawed.wait()
            piece, self._kept = self._kept or await super().receive(), b""
            await self._node.thawed.wait()
            if not piece:
                break
            data += piece
        self.received += data
        return data

    async def send(self, data: bytes) -> None:
        await self._node.thawed.wait()
        await super().send(data)

    def freeze(self) -> None:
        """Somebody on the path drops all packets of this stream."""
        self.stream.freeze()

    async def read_header(self) -> None:
        self.first = await super().receive()
        if self.first:
            kind, length = self.first[:2]
            assert kind == 3
            self.host = self.first[2 : 2 + length].decode()
            self._kept = self.first[length + 4 :]


Handler = Callable[[FarStream], Awaitable[None]]


class Node:
    """A proxy server and all destinations behind it: ``handlers`` by host name."""

    def __init__(self, handlers: Mapping[str, Handler], address: str) -> None:
        self.handlers: dict[str, Handler] = {
            PROBE: answer_probe,
            OTHER_PROBE: answer_probe,
            **handlers,
        }
        self.streams: list[FarStream] = []
        self.thawed = asyncio.Event()
        self.thawed.set()
        self._listener = Listener(self._accept, address)
        self.address = address
        self.port = self._listener.port
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._listener.listen()

    def freeze(self) -> None:
        self.thawed.clear()

    async def kill(self) -> None:
        """As SIGKILL: nobody listens, and every connection breaks."""
        self._listener.close()
        for stream in self.streams:
            stream.reset()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def streams_to(self, host: str) -> list[FarStream]:
        return [stream for stream in self.streams if stream.host == host]

    def answer_probes(self, handler: Handler) -> None:
        """From now on probes are answered so."""
        self.handlers[PROBE] = self.handlers[OTHER_PROBE] = handler

    def _accept(self, stream: MemoryStream) -> None:
        task = asyncio.ensure_future(self._serve(FarStream(self, stream)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: FarStream) -> None:
        self.streams.append(stream)
        with suppress(ConnectionError):
            await self.thawed.wait()
            await stream.read_header()
            if stream.host:
                await self.handlers[stream.host](stream)
        await stream.stream.aclose()


async def answer_probe(stream: FarStream) -> None:
    await stream.receive()
    await stream.send(GOOD_ANSWER)


async def never_answer(stream: FarStream) -> None:
    while await stream.receive():
        pass


async def echo(stream: FarStream) -> None:
    while data := await stream.receive():
        await stream.send(data)


def answer(data: bytes, *, after: float = 0.0) -> Handler:
    """Send ``data`` after whatever is asked, ``after`` so many seconds."""

    async def handle(stream: FarStream) -> None:
        await stream.receive()
        await asyncio.sleep(after)
        await stream.send(data)

    return handle


class FarTransport(Transport):
    """The simplest transport: the destination, then the stream."""

    schemes = ("far",)

    def __init__(
        self, name: str = "far", level: Privacy = Privacy.ENCRYPTED, *, replies: bool = False
    ) -> None:
        self.name = name
        self.level = level
        self.replies = replies

    def parse(self, link: str) -> ServerEntry:
        raise NotImplementedError

    def privacy(self, entry: ServerEntry) -> Privacy:
        assert entry.transport == self.name
        return self.level

    def cost(self, entry: ServerEntry) -> Cost:
        assert entry.transport == self.name
        return Cost(dial=DIAL, stream=STREAM)

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        assert account.charged >= DIAL
        return FarTunnel(entry, dialer)


class FarTunnel(Tunnel):
    """A connection of its own for every stream."""

    def __init__(self, entry: ServerEntry, dialer: Dialer) -> None:
        self._entry = entry
        self._dialer = dialer

    async def open(self, destination: Destination) -> ByteStream:
        stream = await self._dialer.tcp(self._entry.host, self._entry.port)
        return HeaderStream(stream, destination.encode())


def candidate(node: Node, transport: Transport | None = None) -> Candidate:
    """A candidate that leads to ``node``."""
    chosen = transport or FarTransport()
    link = f"far://{SECRET}-{next(_numbers)}@{node.address}:{node.port}"
    return Candidate(ServerEntry(chosen.name, node.address, node.port, "", link, None), chosen)


def all_of(made: Sequence[Node]) -> list[Candidate]:
    """One candidate for each node."""
    return [candidate(node) for node in made]


@asynccontextmanager
async def nodes(
    number: int, handlers: Mapping[str, Handler] | None = None, *, apart: bool = False
) -> AsyncIterator[list[Node]]:
    """So many servers, each in a network of its own if they are ``apart``."""
    made = [
        Node(handlers or {}, f"127.0.{place if apart else 0}.1") for place in range(1, number + 1)
    ]
    for node in made:
        node.start()
    try:
        yield made
    finally:
        for node in made:
            await node.kill()
