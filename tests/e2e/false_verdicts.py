"""How often health calls a healthy tunnel dead, or cuts a healthy stream."""

from __future__ import annotations

import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from dataclasses import field as field_of
from pathlib import Path

from tests.e2e.field import COLUMNS, NETWORKS, Client, Field, field
from tests.e2e.usage import PORTS, Outcome, Task, outcomes, use_command
from tests.peers.destinations import ROOT
from tests.peers.hosts import Host
from tests.peers.process import PeerError, Process

SETTLED = 1.0  # seconds after the last tunnel came up
DISTURBED_AFTER = 10.0  # seconds; by then all streams are open
LONGEST = 150.0  # seconds that any row takes
COUNT = 100  # streams of a cell
LINE, LINE_BYTES = "2mbit", 250_000  # per second


@dataclass(frozen=True, slots=True)
class Row:
    """A kind of slow but healthy use.

    ``uses`` are shares of all streams, ``always`` are so many whatever the share. ``beside`` them
    others begin later, which may fail.
    ``disturb`` happens while they go on, in a thread. ``most`` streams make sense for a column.
    """

    name: str
    uses: Mapping[str, float]
    always: Mapping[str, int] = field_of(default_factory=dict)
    beside: Mapping[str, int] = field_of(default_factory=dict)
    page: str = "/"
    servers: int = 1
    wrap: tuple[str, ...] = ()
    is_alone: bool = False
    disturb: Callable[[Cell], None] = lambda _: None
    most: Mapping[str, int] = field_of(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of use over one transport."""

    field: Field
    client: Client
    row: Row
    column: str

    def tasks(self, count: int) -> list[Task]:
        """What its users do."""
        port, row = self.client.port, self.row
        count = min(count, row.most.get(self.column, count))
        uses = [Task(port, use, max(1, round(share * count))) for use, share in row.uses.items()]
        always = [Task(port, use, n) for use, n in row.always.items()]
        beside = [Task(port, use, n, DISTURBED_AFTER) for use, n in row.beside.items()]
        return [*uses, *always, *beside]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What health did in one cell."""

    streams: int
    failures: Sequence[Outcome]
    lost: Sequence[str]

    def __str__(self) -> str:
        return f"{len(self.failures)} of {self.streams} cut, {len(self.lost)} lost"

    @property
    def reasons(self) -> str:
        """The reasons, for those who look for causes."""
        texts = Counter(f"{each.use}: {each.failure}" for each in self.failures)
        return "; ".join([*(f"{n} x {text}" for text, n in texts.most_common(4)), *self.lost])


# A session cuts the streams whose far ends take nothing, once they fill all that it may hold.
STALLED_IN_A_SESSION = 16


def single(use: str, **most: int) -> Row:
    """All streams are used the same way."""
    return Row(use, {use: 1.0}, most=most)


def silence_pages(cell: Cell) -> None:
    cell.field.destinations[NETWORKS[0]].send(signal.SIGUSR1)


def stand_still(cell: Cell) -> None:
    """The process stands still, as when a laptop sleeps or a machine swaps."""
    cell.client.process.freeze()
    time.sleep(3)
    cell.client.process.thaw()


def lose_route(cell: Cell) -> None:
    """The route vanishes, as when a cable is pulled out."""
    near = cell.field.near
    near.run("ip link set far0 down")
    time.sleep(4)
    near.run("ip link set far0 up")
    near.run(f"ip route add default via {NETWORKS[0]}.2")


def lose_packets(cell: Cell) -> None:
    """All packets are lost without an error, as on a radio link."""
    for network in NETWORKS:
        cell.field.far[network].run(f"ip route add blackhole {network}.1")
    time.sleep(8)
    for network in NETWORKS:
        cell.field.far[network].run(f"ip route del blackhole {network}.1")


def bloat(cell: Cell) -> None:
    """Bytes sent faster than the line takes them wait in a queue for up to 3 s."""
    _narrow(cell.field.near, "far0")
    _await_queue(cell.field.near, "far0")


def _narrow(host: Host, device: str) -> None:
    host.run(f"tc qdisc add dev {device} root tbf rate {LINE} burst 16k latency 3s")


def _await_queue(host: Host, device: str) -> None:
    """Wait until a packet takes a second to pass the queue."""
    deadline = time.monotonic() + 15.0
    while True:
        (queue,) = re.findall(r"backlog (\d+)(K?)b", host.run(f"tc -s qdisc show dev {device}"))
        if int(queue[0]) * (1024 if queue[1] else 1) > LINE_BYTES:
            return
        if time.monotonic() > deadline:
            raise PeerError(f"the line was never filled: {queue}")
        time.sleep(0.1)


def bloat_down(cell: Cell) -> None:
    far = cell.field.far[NETWORKS[0]]
    _narrow(far, "near")
    _await_queue(far, "near")


# Reno, for it fills any queue: CUBIC stops where delays begin to grow (RFC 9406).
UPLOADER = """
import socket, sys, threading
def upload():
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    sock.connect((sys.argv[1], int(sys.argv[2])))
    while True:
        sock.sendall(bytes(65536))
for _ in range(40):  # their windows are small
    threading.Thread(target=upload).start()
"""


def bloat_by_another(cell: Cell) -> None:
    """Another program on the user's host uploads without us."""
    near, port = cell.field.near, str(PORTS["uploads without end"])
    _narrow(near, "far0")
    upload = near.inside([sys.executable, "-c", UPLOADER, f"{NETWORKS[0]}.2", port])
    with Process(upload, cell.field.folder / "another.log"):
        _await_queue(near, "far0")
        time.sleep(25)


QUIET = {
    "long polls on kept-alive connections": 0.4,
    "pings both ways": 0.3,
    "an idle shell": 0.3,
}
SHARES = {
    "long polls on kept-alive connections": 0.3,
    "pings both ways": 0.3,
    "an idle shell": 0.2,
    "chat": 0.2,
}
ROWS = (
    single("steady upload, answered at the end"),
    single("long polls on kept-alive connections"),
    single("an event every 12 s"),
    single("an idle shell"),
    single("video that pauses", relay=STALLED_IN_A_SESSION),
    single("an upload whose destination stalls", relay=STALLED_IN_A_SESSION),
    single("a destination that never answers"),
    single("a download at 1 kB/s"),
    single("a late first answer"),
    single("a half-closed upload"),
    single("kept alive and idle"),
    single("pings both ways"),
    Row("probe pages that answer after 2.5 s", {"a late first answer": 1.0}, page="/after/2.5"),
    Row(
        "probe pages that are silent for 8 s",
        {"a late first answer": 0.5, "kept alive and idle": 0.5},
        page="/shy",
        disturb=silence_pages,
    ),
    Row(
        "an uplink that the user's uploads fill",
        SHARES,
        always={"uploads without end": 6},
        servers=3,
        is_alone=True,
        disturb=bloat,
    ),
    Row(
        "an uplink that another program fills",
        QUIET,
        servers=3,
        is_alone=True,
        disturb=bloat_by_another,
    ),
    Row(
        "a downlink that the user's downloads fill",
        SHARES,
        always={"downloads without end": 12},
        servers=3,
        is_alone=True,
        disturb=bloat_down,
    ),
    Row(
        "no descriptors are left",
        SHARES,
        beside={"fetch": 200},
        wrap=("prlimit", "--nofile=256:256"),
    ),
    Row("the client stands still for 3 s", SHARES, disturb=stand_still),
    Row("no route for 4 s", SHARES, servers=3, is_alone=True, disturb=lose_route),
    Row("no packet passes for 8 s", SHARES, servers=3, is_alone=True, disturb=lose_packets),
)


def false_verdicts(
    rows: Sequence[Row], columns: Sequence[str], count: int = COUNT, pace: float = 1.0
) -> dict[tuple[str, str], Verdicts]:
    """All cells at the same time, by the row's name and column."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shared = [row for row in rows if not row.is_alone]
        places = [(shared, columns)] if shared else []
        places += [([row], [column]) for row in rows if row.is_alone for column in columns]
        cells: dict[tuple[str, str], Cell] = {}
        for number, (some_rows, some_columns) in enumerate(places):
            own = folder / f"field-{number}"
            own.mkdir()
            there = stack.enter_context(field(own, pace=pace))
            for column in some_columns:
                for cell in _cells(stack, there, some_rows, column, 10_000 + 1000 * number):
                    cells[cell.row.name, column] = cell
        for cell in cells.values():
            cell.client.await_tunnels()
        time.sleep(SETTLED)
        tasks: dict[Field, list[Task]] = {}
        for cell in cells.values():
            tasks.setdefault(cell.field, []).extend(cell.tasks(count))
        users = [
            stack.enter_context(
                Process(
                    there.near.inside(use_command(pace, some)), there.folder / "users.log", cwd=ROOT
                )
            )
            for there, some in tasks.items()
        ]
        with ThreadPoolExecutor(len(cells)) as pool:
            time.sleep(DISTURBED_AFTER * pace)
            for _ in pool.map(lambda cell: cell.row.disturb(cell), cells.values()):
                pass
        for user in users:
            assert user.wait(LONGEST) == 0, user.log
        ended = [outcome for user in users for outcome in outcomes(user.log)]
        return {key: _verdicts(cell, ended) for key, cell in cells.items()}


def _cells(
    stack: ExitStack, there: Field, rows: Sequence[Row], column: str, first: int
) -> Iterator[Cell]:
    most = max(row.servers for row in rows)
    servers = [stack.enter_context(there.server(column, each)) for each in NETWORKS[:most]]
    for number, row in enumerate(rows):
        links = [server.link for server in servers[: row.servers]]
        port = first + 100 * list(COLUMNS).index(column) + number
        client = stack.enter_context(there.client(column, links, port, row.page, row.wrap))
        yield Cell(there, client, row, column)


def _verdicts(cell: Cell, ended: Sequence[Outcome]) -> Verdicts:
    port, uses = cell.client.port, {**cell.row.uses, **cell.row.always}
    mine = [each for each in ended if each.port == port and each.use in uses]
    lost = [str(event["reason"]) for event in cell.client.events("tunnel_lost")]
    return Verdicts(len(mine), [each for each in mine if each.failure], lost)
