"""``make bench``: our client beside the sing-box client, against the same sing-box server.

Both clients run all the time and are measured in turn, round after round, so that whatever
else the machine does meets both. Exit code 1 when something that must be reached is missed.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench import report
from tests.bench.aims import Line
from tests.bench.contenders import OURS, PEER, Contender, Running, started, started_origin
from tests.bench.measures import GIB, MIB, Size, bulk, connections, idle
from tests.peers.certificates import Certificate, make_certificate
from tests.peers.servers import sing_box_server
from tests.peers.services import SHADOWSOCKS, TROJAN, Service

SERVICES = {service.transport: service for service in (SHADOWSOCKS[0], TROJAN)}
CONTENDERS = {contender.name: contender for contender in (OURS, PEER)}
MEASURES = ("down", "up", "connections", "idle")
Figures = dict[str, dict[str, list[float]]]  # by figure, then by contender


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print every sample as JSON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=GIB // MIB, help="moved in each round")
    parser.add_argument("--connections", type=int, default=4000, help="opened in each round")
    parser.add_argument("--idle-streams", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=MEASURES)
    parser.add_argument("--transports", nargs="+", choices=SERVICES, default=list(SERVICES))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Measure and print; the exit code."""
    wanted = options(arguments)
    with tempfile.TemporaryDirectory() as name, started_origin(Path(name)) as origin:
        certificate = make_certificate(Path(name))
        lines = [
            line
            for transport in wanted.transports
            for line in compare(SERVICES[transport], wanted, Path(name), certificate, origin)
        ]
    print(report.as_json(lines) if wanted.json else report.table(lines, wanted.contenders))
    return int(any(line.verdict == "missed" for line in lines))


def compare(
    service: Service,
    wanted: argparse.Namespace,
    folder: Path,
    certificate: Certificate,
    origin: int,
) -> list[Line]:
    """Everything about one transport."""
    contenders = [CONTENDERS[name] for name in wanted.contenders]
    with running(contenders, service, folder, certificate, origin) as clients:
        figures = rounds(clients, wanted, service.transport)
    return [Line(service.transport, figure, samples) for figure, samples in figures.items()]


@contextmanager
def running(
    contenders: Sequence[Contender],
    service: Service,
    folder: Path,
    certificate: Certificate,
    origin: int,
) -> Iterator[list[Running]]:
    """All contenders, started over one server."""
    with ExitStack() as stack:
        server = stack.enter_context(sing_box_server(service, folder, certificate))
        yield [
            stack.enter_context(started(contender, [server.endpoint], folder, origin))
            for contender in contenders
        ]


def rounds(clients: Sequence[Running], wanted: argparse.Namespace, transport: str) -> Figures:
    """Measure the clients in turn, round after round.

    Memory comes once and first: what many connections leave behind would be used again.
    """
    size = Size(wanted.mib * MIB, wanted.connections, wanted.idle_streams)
    figures: Figures = {}
    if "idle" in wanted.only:
        say(f"{transport}: idle streams")
        for client in clients:
            note(figures, client, idle(client, size))
    for number in range(wanted.rounds):
        say(f"{transport}: round {number + 1} of {wanted.rounds}")
        for client in clients:
            note(figures, client, measure_round(client, size, wanted.only))
    return figures


def measure_round(client: Running, size: Size, only: Sequence[str]) -> dict[str, float]:
    """One round of what is measured in rounds."""
    figures: dict[str, float] = {}
    for way in ("down", "up"):
        if way in only:
            figures |= bulk(client, size, way)
    return figures | (connections(client, size) if "connections" in only else {})


def note(figures: Figures, client: Running, measured: dict[str, float]) -> None:
    """Add what was measured to what is known."""
    for figure, value in measured.items():
        figures.setdefault(figure, {}).setdefault(client.contender.name, []).append(value)


def say(progress: str) -> None:
    """Tell whoever waits; standard output is for the result."""
    print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
