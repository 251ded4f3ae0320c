"""Discovery in virtual time, over channels that answer what a test tells them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from circumvent.api import (
    Account,
    Channel,
    Cost,
    Dialer,
    Fetch,
    NetworkDialer,
    Privacy,
    ServerEntry,
    Transport,
    Tunnel,
)
from circumvent.discovery.discovery import Discovery
from circumvent.discovery.origins import Origin, parse_origin
from circumvent.discovery.resources import Dialers, DiscoveryResources
from circumvent.discovery.timings import DiscoveryTimings
from circumvent.layers.tls.client import TlsClient
from circumvent.links.invite import Invite, format_invite
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.state.store import Store
from circumvent.status.events import Event
from circumvent.tunnels.candidate import Candidate
from circumvent.wire.bundle import Bundle, Trust
from tests.unit.conftest import OpenStore
from tests.unit.test_bundle import KEYS, LINKS
from tests.virtual.loop import WALL_START, loop_clock, running_loop, until

MIB = 1 << 20
DAY = 86400
NOW = int(WALL_START)
TIMINGS = DiscoveryTimings()
OFTEN = DiscoveryTimings(refresh=(5.0, 5.0))

Kind = TypeVar("Kind", bound=Event)
Answer = bytes | Exception | None  # None: never


def fresh(version: int = 7, **changes: object) -> Bundle:
    """A bundle that is valid for a day."""
    return msgspec.structs.replace(Bundle(version, NOW - 60, NOW + DAY, LINKS), **changes)


def valid_after(days: int, version: int) -> Bundle:
    """A bundle for a day that comes later."""
    return fresh(version, issued=NOW + days * DAY - 60, expires=NOW + (days + 1) * DAY)


@dataclass
class ToldChannel(Channel):
    """Answers as it is told; ``asked`` keeps when, in the loop's time."""

    name: str
    answers: list[Answer] = field(default_factory=list)
    tier: int = 0
    delay: float = 0.0
    watch: float = 0.0
    size: int = 1000

    def __post_init__(self) -> None:
        self.schemes = (self.name,)
        self.cost = Cost(dial=self.size, stream=0)
        self.asked: list[float] = []
        self.dialers: list[Dialer] = []
        self.running = 0

    def check(self, source: str) -> None:
        pass

    async def fetch(self, fetch: Fetch) -> AsyncGenerator[bytes, None]:
        self.asked.append(running_loop().time())
        self.dialers.append(fetch.dialer)
        self.running += 1
        try:
            await asyncio.sleep(self.delay)
            for answer in self.answers:
                if answer is None:
                    await asyncio.Event().wait()
                elif isinstance(answer, Exception):
                    raise answer
                else:
                    yield answer
        finally:
            self.running -= 1


class AnyTransport(Transport):
    """Takes every link; nothing is dialled here."""

    name = "any"

    def parse(self, link: str) -> ServerEntry:
        return ServerEntry(self.name, "192.0.2.1", 1, "", link, None)

    def privacy(self, entry: ServerEntry) -> Privacy:  # noqa: ARG002 - of every link
        return Privacy.ENCRYPTED

    def cost(self, entry: ServerEntry) -> Cost:
        raise NotImplementedError

    async def connect(self, entry: ServerEntry, dialer: NetworkDialer, account: Account) -> Tunnel:
        raise NotImplementedError


@dataclass
class Scene:
    """A discovery at work, and what came of it."""

    store: Store
    events: list[Event]
    offers: list[Sequence[str]]

    async def until(self, kind: type[Kind], count: int = 1) -> list[Kind]:
        """Wait for so many events of a kind."""
        await until(lambda: len(self.all(kind)) >= count)
        return self.all(kind)

    def all(self, kind: type[Kind]) -> list[Kind]:
        """The events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


Begin = Callable[..., Scene]


@pytest.fixture(name="begin")
async def begin_fixture(tmp_path: Path, opened: OpenStore) -> AsyncIterator[Begin]:
    """Starts a discovery; several of one test share their state file."""
    tasks: list[asyncio.Task[None]] = []

    def start(
        *channels: ToldChannel,
        origin: Origin | None = None,
        up: Callable[[], bool] = lambda: False,
        tunnels: Dialer | None = None,
        timings: DiscoveryTimings = TIMINGS,
        wants_more: Callable[[], bool] = lambda: False,
    ) -> Scene:
        direct = NetDialer(TlsClient())
        scene = Scene(opened(tmp_path / "state.db"), [], [])
        resources = DiscoveryResources(
            {channel.name: channel for channel in channels},
            dict.fromkeys(("ss", "trojan"), AnyTransport()),
            Dialers(lambda _: direct, tunnels or direct, up),
            Memory(16 * MIB),
            scene.store,
            loop_clock(),
            timings,
        )

        def offer(found: Sequence[Candidate], _: Counter[Privacy]) -> None:
            assert all(candidate.is_learnt for candidate in found)
            scene.offers.append(tuple(candidate.entry.link for candidate in found))

        discovery = Discovery(resources, scene.events.append, offer)
        discovery.wants_more = wants_more
        running = discovery.run([origin or invited(*channels)])
        tasks.append(asyncio.ensure_future(running))
        return scene

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def invited(*channels: ToldChannel, trust: Trust | None = None) -> Origin:
    """An origin whose first sources are those of the channels."""
    sources = tuple(f"{channel.name}:here" for channel in channels)
    return parse_origin(format_invite(Invite(trust or Trust((KEYS[0],)), sources)))


def pass_days(days: float) -> None:
    """Set the wall clock forward; timers go on as they are."""
    running_loop().sleep_machine(days * DAY)
