"""A proof of failover: servers are killed and frozen under continuous new connections."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.contenders import OURS, PEER, Contender, Running, started, started_origin
from tests.e2e.new_connections import NewConnections, Outage
from tests.e2e.nodes import Node, busiest, three_nodes
from tests.peers.process import Process

WARM_UP = 2.0  # seconds of connections before the first fault
LOOK = 1.0  # seconds to find out who serves
RECOVERY = 15.0  # seconds that the client gets to use all servers again
WATCHED = 4.0  # seconds of connections after a fault


@dataclass(frozen=True, slots=True)
class Round:
    """One server killed, then another frozen."""

    kill: Outage
    freeze: Outage


@contextmanager
def scene(contender: Contender) -> Iterator[tuple[list[Node], Running]]:
    """Three servers of three transports and a client over them."""
    with (
        tempfile.TemporaryDirectory() as name,
        started_origin(Path(name)) as origin,
        three_nodes(Path(name)) as nodes,
        started(contender, [node.endpoint for node in nodes], Path(name), origin) as running,
    ):
        yield nodes, running


def faults(contender: Contender, rounds: int) -> Iterator[Round]:
    """In each round, kill the server in use, freeze the next one in use, and restore both."""
    with scene(contender) as (nodes, running), NewConnections(running.through) as connections:
        time.sleep(WARM_UP)
        for _ in range(rounds):
            killed = busiest(nodes, LOOK)
            kill = hurt(killed.process.kill, connections, WATCHED)
            frozen = busiest([node for node in nodes if node is not killed], LOOK)
            yield Round(kill, hurt(frozen.process.freeze, connections, WATCHED))
            restore(nodes)


def fresh_faults(contender: Contender, watched: float) -> Round:
    """Cause the same two faults, each in a new scene, for a client that does not recover."""
    outages = []
    for fault in (Process.kill, Process.freeze):
        with scene(contender) as (nodes, running), NewConnections(running.through) as connections:
            time.sleep(WARM_UP)
            serving = busiest(nodes, LOOK)
            outages.append(hurt(partial(fault, serving.process), connections, watched))
    return Round(*outages)


def hurt(fault: Callable[[], None], connections: NewConnections, watched: float) -> Outage:
    """Cause a fault and see what happens to the connections of the watched seconds after it."""
    at = time.monotonic()
    fault()
    return connections.outage(at, at + watched)


def restore(nodes: Sequence[Node]) -> None:
    """Bring all servers back and wait until each carries something."""
    for node in nodes:
        node.restore()
    deadline = time.monotonic() + RECOVERY
    idle = list(nodes)
    before = {node.endpoint.port: node.bytes_moved for node in nodes}
    while idle and time.monotonic() < deadline:
        time.sleep(LOOK)
        idle = [node for node in idle if node.bytes_moved == before[node.endpoint.port]]


def summary(name: str, rounds: Sequence[Round]) -> str:
    """Median and worst of both faults."""
    lines = []
    for fault in ("kill", "freeze"):
        outages = [getattr(each, fault) for each in rounds]
        for figure in ("next_success", "last_failure", "failures"):
            values = [getattr(outage, figure) for outage in outages]
            middle, worst = statistics.median(values), max(values)
            label = f"{name}, {fault}, {figure.replace('_', ' ')}"
            lines.append(f"{label}: median {middle:.2f}, worst {worst:.2f} of {len(values)}")
    return "\n".join(lines)


def main() -> None:
    """Print the failover of our client beside that of the sing-box client."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of our client")
    parser.add_argument("--peer-seconds", type=float, default=30, help="200 shows all of it")
    wanted = parser.parse_args()
    if wanted.rounds:
        print(summary(OURS.name, list(faults(OURS, wanted.rounds))), flush=True)
    print(summary(PEER.name, [fresh_faults(PEER, wanted.peer_seconds)]))


if __name__ == "__main__":
    main()
