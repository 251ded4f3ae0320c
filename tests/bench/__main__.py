"""``make bench``: our client beside sing-box's or mihomo's, over the same server.

Both clients run all the time and are measured in turn, round after round, so that whatever
else the machine does meets both. Exit code 1 when something that must be reached is missed.
"""

import argparse
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import floor, report
from tests.bench.aims import Line
from tests.bench.contenders import MIHOMO, OURS, PEER, Contender, Running, started, started_origin
from tests.bench.measures import GIB, MIB, Size, bulk, connections, idle
from tests.peers.certificates import Certificate, make_certificate
from tests.peers.servers import ServerMaker, mihomo_server, sing_box_server
from tests.peers.services import (
    SHADOWSOCKS,
    TROJAN,
    VLESS_REALITY,
    VLESS_REALITY_VISION,
    VLESS_TLS,
    Service,
)

MEASURES = ("down", "up", "connections", "idle")
# Of many streams that begin at once mihomo's server loses some, whoever its client is.
OF_VISION = ("down", "up", "idle")


@dataclass(frozen=True, slots=True)
class Match:
    """What is spoken with whose server, the client beside ours, and what is measured."""

    name: str
    service: Service
    server: ServerMaker
    peer: Contender
    measures: Sequence[str] = MEASURES


MATCHES = {
    match.name: match
    for match in (
        Match("shadowsocks", SHADOWSOCKS[0], sing_box_server, PEER),
        Match("trojan", TROJAN, sing_box_server, PEER),
        Match("vless", VLESS_TLS, sing_box_server, PEER),
        Match("reality", VLESS_REALITY, mihomo_server, MIHOMO),
        Match("vision", VLESS_REALITY_VISION, mihomo_server, MIHOMO, OF_VISION),
    )
}
Figures = dict[str, dict[str, list[float]]]  # by figure, then by contender


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("services", nargs="*", metavar="SERVICE", help=f"of {', '.join(MATCHES)}")
    parser.add_argument("--json", action="store_true", help="print every sample as JSON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=GIB // MIB, help="moved in each round")
    parser.add_argument("--connections", type=int, default=2000, help="opened in each round")
    parser.add_argument("--idle-streams", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=MEASURES)
    wanted = parser.parse_args(arguments)
    if unknown := set(wanted.services).difference(MATCHES):
        parser.error(f"no such service: {', '.join(sorted(unknown))}")
    return wanted


def main(arguments: Sequence[str]) -> int:
    """Measure and print; the exit code."""
    wanted = options(arguments)
    missed = False
    if not wanted.json:
        say(
            f"floor, CPU s/GiB: {floor.copying():.2f} to copy from socket to socket,"
            f" {floor.sealing():.2f} for AES-128-GCM",
        )
        print(report.row(report.HEAD), flush=True)
    with tempfile.TemporaryDirectory() as name, started_origin(Path(name)) as origin:
        certificate = make_certificate(Path(name))
        for service in wanted.services or MATCHES:
            for line in compare(MATCHES[service], wanted, Path(name), certificate, origin):
                text = report.as_json(line) if wanted.json else report.row(report.cells_of(line))
                print(text, flush=True)
                missed |= line.verdict == "missed"
    return int(missed)


def compare(
    match: Match, wanted: argparse.Namespace, folder: Path, certificate: Certificate, origin: int
) -> list[Line]:
    """Everything about one service."""
    with running(match, folder, certificate, origin) as clients:
        figures = rounds(clients, wanted, match)
    return [
        Line(match.name, figure, samples, match.peer.name) for figure, samples in figures.items()
    ]


@contextmanager
def running(
    match: Match, folder: Path, certificate: Certificate, origin: int
) -> Iterator[list[Running]]:
    """Both clients, started over one server."""
    with ExitStack() as stack:
        server = stack.enter_context(match.server(match.service, folder, certificate))
        is_tls = bool(match.service.flow)  # what Vision is for
        yield [
            stack.enter_context(
                started(contender, [server.endpoint], folder, origin, is_tls=is_tls)
            )
            for contender in (OURS, match.peer)
        ]


def rounds(clients: Sequence[Running], wanted: argparse.Namespace, match: Match) -> Figures:
    """Measure the clients in turn, round after round.

    Memory comes once and first: what many connections leave behind would be used again.
    """
    size = Size(wanted.mib * MIB, wanted.connections, wanted.idle_streams)
    measured = set(wanted.only).intersection(match.measures)
    figures: Figures = {}
    if "idle" in measured:
        say(f"{match.name}: idle streams")
        for client in clients:
            note(figures, client, idle(client, size))
    for number in range(wanted.rounds):
        say(f"{match.name}: round {number + 1} of {wanted.rounds}")
        for client in clients:
            note(figures, client, measure_round(client, size, measured))
    return figures


def measure_round(client: Running, size: Size, only: Collection[str]) -> dict[str, float]:
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
