"""``python -m tests.bench.session_cpu``: CPU seconds per GiB that a session costs, at both ends.

First the session and its three ``tls`` carriers alone: one end sends, one receives. Exit code 1
when the two together take more than they may. Then as users have it, with the SOCKS port and the
destination's connection: ``circumvent run`` with an invite, and ``circumvent relay run``.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.aims import Bound
from tests.bench.contenders import started_origin
from tests.bench.layers import BONDED, Stack, far_end, stacks
from tests.bench.layers import measure as measure_stack
from tests.bench.load import Load, Through
from tests.bench.measures import BULK_STREAMS, GIB, MIB, spending
from tests.peers.certificates import make_certificate
from tests.peers.client import running_client
from tests.peers.process import Process
from tests.peers.relay import make_relay, running_relay

CARRIERS = 3
BOTH_ENDS = Bound(2.5, 1.8, ratio=False)  # CPU s/GiB


@dataclass(frozen=True, slots=True)
class Ends:
    """Two processes, and the way of a load through them."""

    client: Process
    relay: Process
    through: Through


@contextmanager
def both_ends(folder: Path) -> Iterator[Ends]:
    """A relay and a client with all its carriers."""
    directory = folder / "relay"
    port = make_relay(directory)
    with started_origin(folder) as origin, running_relay(directory, port) as relay:
        probe = f"http://127.0.0.1:{origin}/generate_204"
        link = with_tls_only(relay.link)
        with running_client(folder / "client", [link], probe) as client:
            client.await_carriers(CARRIERS)
            yield Ends(client.process, relay.process, Through(client.port, origin))


def with_tls_only(link: str) -> str:
    """An invite to ``tls`` carriers alone."""
    return link.replace("carriers=tls%2Cwebsocket", "carriers=tls").replace(
        "carriers=tls,websocket", "carriers=tls"
    )


def measure(ends: Ends, size: int, streams: int, way: str) -> tuple[float, float, float]:
    """Client and relay in CPU seconds per GiB, and MiB/s."""
    load = Load(ends.through)
    move = load.fetch if way == "down" else load.send
    with spending(ends.client.pid) as client, spending(ends.relay.pid) as relay:
        load.run([move(size // streams) for _ in range(streams)], at_once=streams)
    moved = size / GIB
    return client.cpu / moved, relay.cpu / moved, size / MIB / client.seconds


def measure_alone(stack: Stack) -> tuple[float, float]:
    """Receiving and sending, in CPU seconds per GiB."""
    with far_end(stack) as port:
        seen = asyncio.run(measure_stack(port, stack))
    return seen.down, seen.up


def main(arguments: Sequence[str]) -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.session_cpu", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=GIB // MIB, help="moved in each round")
    parser.add_argument("--streams", type=int, default=BULK_STREAMS)
    wanted = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        stack = stacks(make_certificate(Path(name)))[BONDED]
        alone = [measure_alone(stack) for _ in range(wanted.rounds)]
    receives, sends = map(statistics.median, zip(*alone, strict=True))
    print(
        f"session and carriers: receiving {receives:.2f} + sending {sends:.2f} ="
        f" {receives + sends:.2f} CPU s/GiB, {BOTH_ENDS}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as name, both_ends(Path(name)) as ends:
        for way in ("down", "up"):
            rounds = [
                measure(ends, wanted.mib * MIB, wanted.streams, way) for _ in range(wanted.rounds)
            ]
            client, relay, rate = map(statistics.median, zip(*rounds, strict=True))
            print(
                f"programs, {way}: client {client:.2f} + relay {relay:.2f} ="
                f" {client + relay:.2f} CPU s/GiB; {rate:.0f} MiB/s"
            )
    return int(not BOTH_ENDS.reached(receives + sends, BOTH_ENDS.must))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
