"""Servers that can be killed, frozen or made to lie, and a tunnel manager that lives off them."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pytest

from circumvent.api import Cost, Dialer, Privacy, ServerEntry, Transport, Tunnel
from circumvent.api.layer import HeaderStream
from circumvent.api.streams import ByteStream
from circumvent.errors import CircumventError
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Account, Memory
from circumvent.net import sockets
from circumvent.net.dialer import NetDialer
from circumvent.net.tcp import TcpStream
from circumvent.state.store import Store
from circumvent.status.events import Event
from circumvent.tunnels import backoff as rests
from circumvent.tunnels import health, live, manager, probe, race, relief, vitals
from circumvent.tunnels.candidate import Candidate
from circumvent.tunnels.dispatch import Dispatcher
from circumvent.tunnels.health import Health
from circumvent.tunnels.live import LiveTunnel
from circumvent.tunnels.manager import PoolOptions, TunnelManager
from circumvent.tunnels.probe import Prober, ProbeTarget
from circumvent.tunnels.race import Track
from circumvent.wire.address import Destination
from tests.peers.censors import freeze_flow

PROBE, OTHER_PROBE = "probe.test", "other-probe.test"
GOOD_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
SECRET = "s3cret"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds
BUDGET = 8 << 20
DIAL, STREAM = 16 << 10, 8 << 10  # bytes that the transport of these tests declares
QUICK: dict[tuple[ModuleType, str], object] = {  # seconds, an order of magnitude below real ones
    (sockets, "TAKEN_SECONDS"): 0.2,
    (live, "FIRST_PATIENCE"): 0.12,
    (health, "TICK"): 0.02,
    (health, "PROBE_SECONDS"): 0.3,
    (health, "LATE"): 0.1,
    (health, "DOUBT_AGAIN_AFTER"): 0.1,
    (health, "LOOK_FOR_FREEZES"): 0.02,
    (health, "PROBE_AGAIN"): 0.1,
    (rests, "RESTS"): (0.06, 0.12, 0.24, 0.3),
    (rests, "EARLY_AFTER"): 0.2,
    (health, "WORKS_FOR"): 0.2,
    (health, "ALL_SILENT"): 0.4,
    (health, "FAIR_WITHIN"): 0.06,
    (health, "LATE_IN_PROBE"): 0.1,
    (manager, "STEADY_AFTER"): 0.08,
    (manager, "WAIT_FOR_TUNNEL"): 0.4,
    (manager, "_PRESSURE_RECHECK"): 0.05,
    (probe, "NEXT_TARGET_AFTER"): (0.05, 0.05),
    (race, "FIRST_STAGGER"): 0.05,
    (race, "MIN_STAGGER"): 0.02,
    (race, "RACE_SECONDS"): 1.5,
    (relief, "STALLED_AFTER"): 0.2,
    (vitals, "ASK_AFTER"): 0.1,
    (vitals, "FROZEN_AFTER"): 0.3,
    (vitals, "UNANSWERED"): 1,
}
_numbers = count(1)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock of the rules run faster."""
    for (module, name), seconds in QUICK.items():
        monkeypatch.setattr(module, name, seconds)


class Visit:
    """One stream as the far side sees it; a frozen node says and hears nothing."""

    def __init__(
        self, node: "Node", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._node = node
        self._reader = reader
        self.writer = writer
        self.host = ""
        self.first = b""  # what the first packet brought, header and all
        self.heard = b""
        self._rest = b""

    async def hear(self, at_least: int = 1) -> bytes:
        """The next bytes; empty at the end."""
        data = b""
        while len(data) < at_least:
            await self._node.thawed.wait()
            piece, self._rest = self._rest or await self._reader.read(65536), b""
            await self._node.thawed.wait()
            if not piece:
                break
            data += piece
        self.heard += data
        return data

    async def say(self, data: bytes) -> None:
        await self._node.thawed.wait()
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        break_off(self.writer)

    def freeze(self) -> None:
        """Somebody on the path drops all packets of this stream."""
        freeze_flow(self.writer.get_extra_info("socket"))

    async def read_header(self) -> None:
        self.first = await self._reader.read(65536)
        if self.first:
            kind, length = self.first[:2]
            assert kind == 3
            self.host = self.first[2 : 2 + length].decode()
            self._rest = self.first[length + 4 :]


Talk = Callable[[Visit], Awaitable[None]]


class Node:
    """A proxy server and all destinations behind it: ``talks`` by host name."""

    def __init__(self, talks: Mapping[str, Talk], address: str) -> None:
        self.talks: dict[str, Talk] = {PROBE: answer_probe, OTHER_PROBE: answer_probe, **talks}
        self.visits: list[Visit] = []
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.address = address
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.address, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def freeze(self) -> None:
        self.thawed.clear()

    async def kill(self) -> None:
        """As SIGKILL: nobody listens, and every connection breaks."""
        if self._server is None:
            return
        self._server.close()
        for visit in self.visits:
            visit.reset()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def visits_to(self, host: str) -> list[Visit]:
        return [visit for visit in self.visits if visit.host == host]

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._visit(Visit(self, reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _visit(self, visit: Visit) -> None:
        self.visits.append(visit)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.thawed.wait()
            await visit.read_header()
            if visit.host:
                await self.talks[visit.host](visit)
        visit.writer.close()


async def answer_probe(visit: Visit) -> None:
    await visit.hear()
    await visit.say(GOOD_ANSWER)


async def never_answer(visit: Visit) -> None:
    while await visit.hear():
        pass


async def echo(visit: Visit) -> None:
    while data := await visit.hear():
        await visit.say(data)


def answer(data: bytes, *, after: float = 0.0) -> Talk:
    """Say ``data`` to whatever is asked."""

    async def talk(visit: Visit) -> None:
        await visit.hear()
        await asyncio.sleep(after)
        await visit.say(data)

    return talk


class FarTransport(Transport):
    """The simplest real transport: the destination, then the stream."""

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


@dataclass(eq=False)
class Browser:
    """A local client and the task that serves it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    served: asyncio.Task[None]
    accepted: list[bool]

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    async def hear_out(self) -> bytes:
        return await self.reader.read()

    def leave(self) -> None:
        break_off(self.writer)


@dataclass(eq=False)
class House:
    """All of the client but its front door."""

    manager: TunnelManager
    health: Health
    dispatcher: Dispatcher
    track: Track
    events: list[Event] = field(default_factory=list)
    networks: list[bytes] = field(default_factory=lambda: [b"home"])
    forgotten: list[bytes] = field(default_factory=list)  # where we were when that was done
    _browsers: list[Browser] = field(default_factory=list)

    @property
    def memory(self) -> Memory:
        return self.track.memory

    @property
    def store(self) -> Store:
        return self.track.store

    async def visit(self, host: str, port: int = 443) -> Browser:
        """A client whose stream leads to ``host``."""
        near, far = await connected_pair()
        accepted: list[bool] = []

        async def accept() -> None:
            await asyncio.sleep(0)
            accepted.append(True)

        async def serve() -> None:
            client = TcpStream(near)
            try:
                await self.dispatcher.carry(client, Destination(host, port), accept)
            finally:
                await client.aclose()

        reader, writer = await asyncio.open_connection(sock=far)
        browser = Browser(reader, writer, asyncio.ensure_future(serve()), accepted)
        self._browsers.append(browser)
        return browser

    async def up(self, number: int) -> list[LiveTunnel]:
        """Wait until so many tunnels are up."""
        await until(lambda: len(self.manager.tunnels) >= number)
        return list(self.manager.tunnels)

    def through(self, node: Node) -> LiveTunnel:
        """The tunnel that leads to ``node``."""
        found = [
            tunnel for tunnel in self.manager.tunnels if tunnel.candidate.entry.port == node.port
        ]
        return found[0]

    async def free(self) -> None:
        """Wait until nothing but the tunnels' own charges is in use."""

        def is_free() -> bool:
            tunnels = sum(tunnel.charged for tunnel in self.manager.tunnels)
            return self.memory.leased == 0 and self.memory.charged == tunnels

        await until(is_free)

    async def close(self) -> None:
        for browser in self._browsers:
            browser.leave()
            browser.served.cancel()
            with suppress(asyncio.CancelledError, CircumventError):
                await browser.served


async def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection on loopback, not blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def break_off(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, as a killed process with unread data does."""
    sock: socket.socket = writer.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for ``condition``; ``seconds`` is far more than anything takes."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - most conditions have no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def nodes(
    number: int, talks: Mapping[str, Talk] | None = None, *, apart: bool = False
) -> AsyncIterator[list[Node]]:
    """So many servers, each in a network of its own if they are ``apart``."""
    made = [Node(talks or {}, f"127.0.{place if apart else 0}.1") for place in range(1, number + 1)]
    for node in made:
        await node.start()
    try:
        yield made
    finally:
        for node in made:
            await node.kill()


@cache
def empty_state() -> bytes:
    """A state file without anything in it; to make one waits for the disk several times."""
    with TemporaryDirectory() as folder:
        state = Path(folder, "state.db")
        Store(state).close()
        return state.read_bytes()


@asynccontextmanager
async def house(  # noqa: PLR0913 - each has tests that change it alone
    candidates: Sequence[Candidate],
    tmp_path: Path,
    *,
    wanted: int = 3,
    parallel: int = 4,
    privacy: Privacy = Privacy.ENCRYPTED,
    budget: int = BUDGET,
) -> AsyncIterator[House]:
    """A running tunnel manager; at the end no task and no memory is left."""
    before = asyncio.all_tasks()
    targets = [ProbeTarget.parse(f"http://{host}/204") for host in (PROBE, OTHER_PROBE)]
    memory = Memory(budget, poison=True)
    dialer = NetDialer(TlsClient())
    state = tmp_path / "state.db"
    if not state.exists():
        state.write_bytes(empty_state())
    track = Track(dialer, dialer, memory, Prober(targets), Store(state))
    events: list[Event] = []
    pool = TunnelManager(candidates, track, events.append, PoolOptions(privacy, wanted, parallel))
    networks = [b"home"]
    forgotten: list[bytes] = []

    def forget() -> None:
        forgotten.append(networks[-1])
        dialer.forget()

    watch = Health(pool, track.store, lambda: networks[-1], forget)
    watch.look_at_network()
    home = House(
        pool,
        watch,
        Dispatcher(pool, watch, track.store.attempts),
        track,
        events,
        networks,
        forgotten,
    )
    parts = [asyncio.ensure_future(pool.run()), asyncio.ensure_future(watch.run())]
    try:
        yield home
        assert not any(part.done() for part in parts)
    finally:
        await home.close()
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        track.store.close()
    assert not {task for task in asyncio.all_tasks() - before if not _is_a_nodes(task)}
    assert (memory.leased, memory.charged) == (0, 0)


def _is_a_nodes(task: asyncio.Task[object]) -> bool:
    return "Node._visit" in str(task.get_coro())
