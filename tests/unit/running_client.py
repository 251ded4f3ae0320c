"""All of a client but its inbound, in memory, and the local clients that it serves."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from circumvent.api import Privacy
from circumvent.errors import CircumventError
from circumvent.memory import Memory
from circumvent.state.attempts import Attempt
from circumvent.state.store import Store
from circumvent.status.events import Event
from circumvent.tunnels.candidate import Candidate
from circumvent.tunnels.dispatch import Dispatcher
from circumvent.tunnels.health import Health
from circumvent.tunnels.live import LiveTunnel
from circumvent.tunnels.manager import PoolOptions, TunnelManager
from circumvent.tunnels.probe import Prober, ProbeTarget
from circumvent.tunnels.race import RaceContext
from circumvent.tunnels.timings import Timings
from circumvent.wire.address import Destination
from tests.unit.far_side import OTHER_PROBE, PROBE, Node
from tests.virtual.loop import loop_clock, until
from tests.virtual.network import MemoryDialer
from tests.virtual.stream import End, MemoryStream, pair

BUDGET = 8 << 20


class Browser(End):
    """A local client and the task that serves it; ``accepted`` once it heard that it worked."""

    def __init__(self, stream: MemoryStream, served: asyncio.Task[None]) -> None:
        super().__init__(stream)
        self.served = served
        self.accepted = 0


@dataclass(eq=False)
class RunningClient:
    """The parts, and where the machine is: the last of ``networks``."""

    manager: TunnelManager
    health: Health
    dispatcher: Dispatcher
    context: RaceContext
    dialer: MemoryDialer
    events: list[Event]
    networks: list[bytes] = field(default_factory=lambda: [b"home"])
    forgotten: list[bytes] = field(default_factory=list)  # where we were when that was done
    _browsers: list[Browser] = field(default_factory=list)

    @property
    def memory(self) -> Memory:
        return self.context.memory

    @property
    def store(self) -> Store:
        return self.context.store

    def attempts(self, server: str | None = None) -> list[Attempt]:
        """All that were recorded, the newest first."""
        return self.store.attempts.newest(999, server)

    def failures(self, server: str | None = None) -> list[Attempt]:
        """Those that failed, the newest first."""
        return self.store.attempts.newest(999, server, failures=True)

    async def browse(self, host: str, port: int = 443) -> Browser:
        """A local client whose stream leads to ``host``."""
        near, far = pair()

        async def accept() -> None:
            await asyncio.sleep(0)
            browser.accepted += 1

        async def serve() -> None:
            try:
                await self.dispatcher.carry(near, Destination(host, port), accept)
            finally:
                await near.aclose()

        browser = Browser(far, asyncio.ensure_future(serve()))
        self._browsers.append(browser)
        return browser

    async def up(self, number: int) -> list[LiveTunnel]:
        """Wait until so many tunnels are up."""
        await until(lambda: len(self.manager.tunnels) >= number)
        return list(self.manager.tunnels)

    def through(self, node: Node) -> LiveTunnel:
        """The tunnel that leads to ``node``."""
        return next(live for live in self.manager.tunnels if live.candidate.entry.port == node.port)

    def prefer(self, node: Node) -> None:
        """Make ``node``'s tunnel everybody's first choice."""
        for live in self.manager.tunnels:
            live.rtt = 0.001 if live is self.through(node) else 0.1

    async def free(self) -> None:
        """Wait until nothing but the tunnels' own charges is in use."""

        def is_free() -> bool:
            tunnels = sum(live.charged for live in self.manager.tunnels)
            return self.memory.leased == 0 and self.memory.charged == tunnels

        await until(is_free)

    def look_at_network(self, name: bytes) -> None:
        """The machine is there now."""
        self.networks.append(name)
        self.health.look_at_network()

    async def close(self) -> None:
        for browser in self._browsers:
            browser.reset()
            browser.served.cancel()
            with suppress(asyncio.CancelledError, CircumventError):
                await browser.served


@cache
def empty_state() -> bytes:
    """A state file without anything in it; to make one waits for the disk several times."""
    with TemporaryDirectory() as folder:
        state = Path(folder, "state.db")
        Store(state).close()
        return state.read_bytes()


@asynccontextmanager
async def running_client(  # noqa: PLR0913 - each has tests that change it alone
    candidates: Sequence[Candidate],
    tmp_path: Path,
    *,
    wanted: int = 3,
    parallel: int = 4,
    privacy: Privacy = Privacy.ENCRYPTED,
    budget: int = BUDGET,
    timings: Timings | None = None,
) -> AsyncIterator[RunningClient]:
    """A client at work; at its end no task and no memory is left."""
    before = asyncio.all_tasks()
    options = PoolOptions(privacy, wanted, parallel)
    memory = Memory(budget, poison=True)
    client = _make_client(candidates, tmp_path / "state.db", memory, options, timings or Timings())
    client.health.look_at_network()
    parts = [
        asyncio.ensure_future(client.manager.run()),
        asyncio.ensure_future(client.health.run()),
    ]
    try:
        yield client
        assert not any(part.done() for part in parts)
    finally:
        await client.close()
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        client.store.close()
    assert not {task for task in asyncio.all_tasks() - before if not _is_a_nodes(task)}
    assert (client.memory.leased, client.memory.charged) == (0, 0)


def _make_client(
    candidates: Sequence[Candidate],
    state: Path,
    memory: Memory,
    options: PoolOptions,
    timings: Timings,
) -> RunningClient:
    if not state.exists():
        state.write_bytes(empty_state())
    targets = [ProbeTarget.parse(f"http://{host}/204") for host in (PROBE, OTHER_PROBE)]
    clock, dialer, store = loop_clock(), MemoryDialer(), Store(state)
    straight, prober = dialer.for_plugins, Prober(targets, clock, timings.probe)
    context = RaceContext(straight, straight, memory, prober, store, clock, timings)
    events: list[Event] = []
    networks, forgotten = [b"home"], list[bytes]()
    manager = TunnelManager(context, events.append, options)
    manager.offer(candidates)
    health = Health(manager, store, lambda: networks[-1], lambda: forgotten.append(networks[-1]))
    dispatcher = Dispatcher(manager, health, store.attempts)
    return RunningClient(manager, health, dispatcher, context, dialer, events, networks, forgotten)


def _is_a_nodes(task: asyncio.Task[object]) -> bool:
    return "Node._serve" in str(task.get_coro())
