"""Two engines and the paths between them, in simulated time."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from dataclasses import dataclass, field

from circumvent.memory import LARGEST, Memory
from circumvent.session.engine.carrier import CarrierState, EngineCarrier
from circumvent.session.engine.engine import Engine
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.engine.stream import EngineStream

KERNEL = 32 * 1024  # bytes that a socket takes ahead of its path: TCP_NOTSENT_LOWAT and a record
SEGMENT = 4096  # bytes that arrive together
BLOCK = memoryview(bytearray(LARGEST))


@dataclass(eq=False)
class End:
    """One end: its engine, and what of an incomplete frame came on each carrier."""

    engine: Engine
    memory: Memory
    carriers: dict[int, EngineCarrier] = field(default_factory=dict)


class Path:
    """One direction of a carrier: a rate in bytes a second and a delay in seconds."""

    def __init__(self, world: World, rate: float, delay: float, jitter: float = 0.0) -> None:
        self.world = world
        self.rate, self.delay, self.jitter = rate, delay, jitter
        self.free_at = self.last_arrival = 0.0
        self.is_frozen = self.is_cut = False
        self.held: list[bytes] = []  # written while frozen
        self.stuck: list[bytes] = []  # on the way when it froze
        self.partial = b""
        self.sent = 0

    def room(self) -> int:
        if self.is_frozen:
            return KERNEL - sum(map(len, self.held))
        return (
            KERNEL - int((self.free_at - self.world.now) * self.rate)
            if self.rate < math.inf
            else KERNEL
        )

    def send(self, data: bytes) -> None:
        self.sent += len(data)
        self.world.sent += len(data)
        for at in range(0, len(data), SEGMENT):
            self._send(data[at : at + SEGMENT])

    def _send(self, data: bytes) -> None:
        if self.is_frozen:
            self.held.append(data)
            return
        start = max(self.world.now, self.free_at)
        self.free_at = start + len(data) / self.rate
        arrival = self.free_at + self.delay + self.world.random.random() * self.jitter
        self.last_arrival = max(self.last_arrival, arrival)  # in order
        self.world.at(self.last_arrival, self, data)

    def thaw(self) -> None:
        self.is_frozen = False
        for data in self.stuck:
            self.world.at(self.world.now, self, data)
        held, self.held, self.stuck = self.held, [], []
        for data in held:
            self._send(data)


@dataclass(eq=False)
class Link:
    """A carrier between the two ends."""

    number: int
    up: Path
    down: Path

    def paths(self) -> tuple[Path, Path]:
        return self.up, self.down


class World:
    """Simulated time, two ends, any number of carriers."""

    def __init__(
        self,
        seed: int = 0,
        limits: SessionLimits | None = None,
        memory: int = 16 << 20,
        *,
        poison: bool = False,
    ) -> None:
        self.now = 1000.0
        self.random = random.Random(seed)
        limits = limits or SessionLimits()
        self.client, self.relay = (
            self._end(limits, Memory(memory, poison=poison), is_client=is_client)
            for is_client in (True, False)
        )
        self.links: dict[int, Link] = {}
        self.sent = 0
        self._numbers = itertools.count(1)
        self._events: list[tuple[float, int, Path, bytes]] = []
        self._order = itertools.count()

    def _end(self, limits: SessionLimits, memory: Memory, *, is_client: bool) -> End:
        engine = Engine(
            memory.account("session"), limits, self.now, self.random, is_client=is_client
        )
        return End(engine, memory)

    # --- faults ---------------------------------------------------------------------------------

    def attach(self, rate: float = math.inf, delay: float = 0.01, jitter: float = 0.0) -> Link:
        number = next(self._numbers)
        link = Link(number, Path(self, rate, delay, jitter), Path(self, rate, delay, jitter))
        self.links[number] = link
        for end in (self.client, self.relay):
            end.carriers[number] = end.engine.attach(number, 2 * delay, self.now)
        return link

    def kill(self, link: Link, *, client: bool = True, relay: bool = True) -> None:
        """The connection breaks; what is on the way is lost."""
        for path in link.paths():
            path.is_cut = True
        self.links.pop(link.number, None)
        for end, notices in ((self.client, client), (self.relay, relay)):
            if notices:
                end.engine.detach(end.carriers[link.number], self.now)

    def freeze(self, link: Link) -> None:
        for path in link.paths():
            path.is_frozen = True

    def thaw(self, link: Link) -> None:
        for path in link.paths():
            path.thaw()

    # --- time -----------------------------------------------------------------------------------

    def at(self, when: float, path: Path, data: bytes) -> None:
        heapq.heappush(self._events, (when, next(self._order), path, data))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while True:
            self.exchange()
            after = min(self._next(), until)
            if after >= until:
                break
            self.now = max(self.now, after)
            self.deliver()
            for end in (self.client, self.relay):
                if end.engine.deadline(self.now) <= self.now:
                    end.engine.tick(self.now)
        self.now = until

    def _next(self) -> float:
        times = [end.engine.deadline(self.now) for end in (self.client, self.relay)]
        if self._events:
            times.append(self._events[0][0])
        for link in self.links.values():
            times += [
                path.free_at - KERNEL / 2 / path.rate
                for path in link.paths()
                if path.room() <= KERNEL // 2 and not path.is_frozen
            ]
        return max(min(times), self.now + 1e-6)

    def deliver(self) -> None:
        while self._events and self._events[0][0] <= self.now:
            _, _, path, data = heapq.heappop(self._events)
            if path.is_cut:
                continue
            if path.is_frozen:
                path.stuck.append(data)
                continue
            self._receive(path, data)

    def _receive(self, path: Path, data: bytes) -> None:
        link = next(link for link in self.links.values() if path in link.paths())
        end = self.relay if path is link.up else self.client
        data = path.partial + data
        taken = end.engine.receive(end.carriers[link.number], memoryview(data), self.now)
        path.partial = data[taken:]

    def exchange(self) -> None:
        """Let every carrier write what it has room for, the fastest first."""
        self._close_dead()
        for link in list(self.links.values()):
            for end, path in ((self.client, link.up), (self.relay, link.down)):
                carrier = end.carriers[link.number]
                while path.room() > KERNEL // 2 and end.engine.has_work(carrier, self.now):
                    room = max(end.engine.sender.scheduler.grain, path.room())
                    count = end.engine.fill(carrier, BLOCK[:room], self.now)
                    if not count:
                        break
                    path.send(bytes(BLOCK[:count]))

    def _close_dead(self) -> None:
        for end in (self.client, self.relay):
            for carrier in end.engine.carriers.changed:
                link = self.links.get(carrier.number)
                if carrier.state is CarrierState.DEAD and link is not None:
                    self.kill(link)
            end.engine.carriers.changed.clear()


def read_some(end: End, stream: EngineStream, size: int, now: float) -> bytes:
    """Up to ``size`` bytes, as many as there are."""
    block = memoryview(bytearray(size))
    return bytes(block[: end.engine.read_into(stream, block, now)])
