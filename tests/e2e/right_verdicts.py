"""How soon health calls a dead tunnel dead, and what its users see until then."""

from __future__ import annotations

import math
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.field import COLUMNS, FIRST_PORT, NETWORKS, Client, Field, Server, field
from tests.e2e.usage import Task, outcomes, use_command
from tests.peers.destinations import ROOT
from tests.peers.process import Process

SETTLED = 1.0  # seconds after the last tunnel came up
LOOK = 1.0  # seconds to find out who serves
HURT = 10.0  # seconds that a fault lasts, where there is but one server
WARM_UP = 2.0  # seconds of connections before the fault
ASK_EVERY = 0.1  # seconds
REQUESTS = 340
CHATS = 20
CLIENT_PORT = 10_000
LONGEST = 150.0


@dataclass(frozen=True, slots=True)
class FaultScene:
    """A client whose busiest server will be hurt."""

    field: Field
    client: Client
    servers: Sequence[Server]
    censors: Mapping[str, Process]  # by network

    def start_users(self, fault: Fault) -> Process:
        """Start users that open connections all the time, and users that keep some open."""
        requests = Task(self.client.port, fault.use, REQUESTS, every=ASK_EVERY)
        chats = Task(self.client.port, "chat", CHATS, every=0.1)
        command = self.field.near.inside(use_command(1.0, [requests, chats]))
        return Process(command, self.field.folder / "users.log", cwd=ROOT)

    def busiest(self) -> Server:
        """The server that carries most."""
        before = [server.bytes_moved for server in self.servers]
        time.sleep(LOOK)
        moved = [each.bytes_moved - was for each, was in zip(self.servers, before, strict=True)]
        return self.servers[moved.index(max(moved))]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a server, and how it ends; ``use`` is what new connections want."""

    name: str
    begin: Callable[[FaultScene, Server], None]
    end: Callable[[FaultScene, Server], None]
    use: str = "ask once"
    is_censored: bool = False


def drop_all(_: FaultScene, server: Server) -> None:
    """All packets between client and server are lost without an error."""
    server.host.run(f"ip route add blackhole {server.network}.1")


def drop_no_more(_: FaultScene, server: Server) -> None:
    server.host.run(f"ip route del blackhole {server.network}.1")


FAULTS = (
    Fault("the server is killed", lambda _, s: s.process.kill(), lambda _, s: s.restart()),
    Fault("the server is stopped", lambda _, s: s.process.freeze(), lambda _, s: s.process.thaw()),
    Fault("no packet passes", drop_all, drop_no_more),
    Fault(
        "each flow freezes after 16 KiB",
        lambda p, s: p.censors[s.network].send(signal.SIGUSR1),
        lambda *_: None,
        use="fetch",
        is_censored=True,
    ),
    Fault(
        "the network behind the server is silent",
        lambda p, s: p.field.destinations[s.network].freeze(),
        lambda p, s: p.field.destinations[s.network].thaw(),
    ),
)


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from a fault (of the only server: from its end) until new connections work again.

    ``failed`` connections did not work; the last of them began at ``last``. ``cut`` is when the
    last hanging stream was reset, ``lost`` when its tunnel was lost.
    """

    works: float
    failed: int
    last: float
    cut: float
    cuts: int
    kept: int
    lost: float

    def __str__(self) -> str:
        parts = [f"works after {self.works:.1f}"]
        if self.failed:
            parts.append(f"{self.failed} failed, the last begun after {self.last:.1f}")
        parts.append(f"{self.cuts} cut after {self.cut:.1f}" if self.cuts else "none cut")
        parts.append(f"{self.kept} kept")
        parts.append(f"tunnel lost after {self.lost:.1f}" if self.lost else "tunnel not lost")
        return "; ".join(parts)


def right_verdicts(fault: Fault, columns: Sequence[str], count: int) -> dict[str, Recovery]:
    """The recovery for each column, over so many servers; all run at the same time."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scenes = [_scene(stack, folder, fault, column, count) for column in columns]
        for scene in scenes:
            scene.client.await_tunnels()
        time.sleep(SETTLED)
        users = [stack.enter_context(scene.start_users(fault)) for scene in scenes]
        time.sleep(WARM_UP)
        with ThreadPoolExecutor(len(scenes)) as pool:
            hurt = list(pool.map(FaultScene.busiest, scenes))
        began = []
        for scene, server in zip(scenes, hurt, strict=True):
            began.append(time.monotonic())
            fault.begin(scene, server)
        time.sleep(HURT)
        again = list(began)
        for at, (scene, server) in enumerate(zip(scenes, hurt, strict=True)):
            if count == 1:
                again[at] = time.monotonic()
                fault.end(scene, server)
        seen = zip(scenes, users, began, again, strict=True)
        return {column: _recovery(*each) for column, each in zip(columns, seen, strict=True)}


def _scene(stack: ExitStack, folder: Path, fault: Fault, column: str, count: int) -> FaultScene:
    own = folder / column.replace(" ", "-")
    own.mkdir()
    there = stack.enter_context(field(own, apart=True))
    servers = [stack.enter_context(there.server(column, each)) for each in NETWORKS[:count]]
    links = [server.link for server in servers]
    censors = {}
    if fault.is_censored:
        port = FIRST_PORT + list(COLUMNS).index(column)
        for server in servers:
            words = ["tests.peers.censors", f"{server.network}.2", str(port + 100), str(port)]
            censor = server.host.inside([sys.executable, "-m", *words])
            log = own / f"censor-{server.network}.log"
            censors[server.network] = stack.enter_context(Process(censor, log, cwd=ROOT))
        links = [link.replace(f":{port}", f":{port + 100}") for link in links]
    client = stack.enter_context(there.client(column, links, CLIENT_PORT))
    return FaultScene(there, client, servers, censors)


def _recovery(scene: FaultScene, users: Process, fault: float, again: float) -> Recovery:
    assert users.wait(LONGEST) == 0, users.log
    ended = outcomes(users.log)
    requests = [each for each in ended if each.use != "chat" and each.began >= again]
    works = min((each.ended for each in requests if not each.failure), default=math.inf)
    fails = [each.began - again for each in requests if each.failure]
    chats = [each for each in ended if each.use == "chat"]
    cuts = [each.ended - fault for each in chats if each.failure]
    clock = time.time() - time.monotonic()
    lost = [float(str(event["at"])) - clock for event in scene.client.events("tunnel_lost")]
    return Recovery(
        works=works - again,
        failed=len(fails),
        last=max(fails, default=0.0),
        cut=max(cuts, default=0.0),
        cuts=len(cuts),
        kept=len(chats) - len(cuts),
        lost=min(lost) - fault if lost else 0.0,
    )
