"""A user's host, hosts of servers, and the networks between them, as network namespaces.

Queues fill, packets are lost and routes vanish in them as in real networks. Each test has hosts of
its own, and servers of every transport.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.e2e.usage import PAGES_PORT, serve_command
from tests.peers import sing_box
from tests.peers.certificates import Certificate, make_certificate
from tests.peers.destinations import ROOT
from tests.peers.hosts import Host, cable, hosts
from tests.peers.process import Process
from tests.peers.relay import command, configure
from tests.peers.services import SHADOWSOCKS, TROJAN, VLESS, VLESS_TLS, Endpoint, Service

NETWORKS = ("10.91.1", "10.91.2", "10.91.3")
FIRST_PORT = 4000
ALL_UP_WITHIN = 60.0  # seconds; many clients start at the same time
RELAY = "relay"

COLUMNS: Mapping[str, Service | None] = {
    "shadowsocks": SHADOWSOCKS[0],
    "trojan": TROJAN,
    "vless over TLS": VLESS_TLS,
    "vless": VLESS,
    RELAY: None,
}


@dataclass(frozen=True, slots=True)
class Server:
    """A server under some address, and its host."""

    link: str
    process: Process
    host: Host
    network: str
    command: Sequence[str]
    log: Path

    def restart(self) -> None:
        """Start it again after it was killed."""
        self.process.__init__(self.host.inside(self.command), self.log, cwd=ROOT)  # type: ignore[misc]

    @property
    def bytes_moved(self) -> int:
        """All bytes that it has read and written."""
        counters = Path(f"/proc/{self.process.pid}/io").read_text().split()
        return int(counters[1]) + int(counters[3])


@dataclass(frozen=True, eq=False, slots=True)
class Field:
    """A user's host ``near``, hosts of servers, and how each network is reached."""

    near: Host
    far: Mapping[str, Host]  # by network
    destinations: Mapping[str, Process]  # by network
    certificate: Certificate
    folder: Path

    @contextmanager
    def server(self, column: str, network: str) -> Iterator[Server]:
        """A server that runs in ``network``."""
        host, number = self.far[network], list(COLUMNS).index(column)
        address, port = f"{network}.2", FIRST_PORT + number
        start = _relay if COLUMNS[column] is None else _sing_box
        link, command = start(self, column, address, port)
        log = self.folder / f"server-{column}-{network}.log"
        with Process(host.inside(command), log, cwd=ROOT) as process:
            yield Server(link, process, host, network, command, log)

    @contextmanager
    def client(
        self,
        column: str,
        links: Sequence[str],
        port: int,
        page: str = "/",
        wrap: Sequence[str] = (),
    ) -> Iterator[Client]:
        """Our client on the near host, started by the command ``wrap``."""
        name = f"{column.replace(' ', '-')}-{port}"
        options = ["--probe-url", f"http://127.0.0.1:{PAGES_PORT}{page}"]
        if column == "vless":
            options += ["--privacy", "plain"]
        home = self.folder / f"home-{name}"
        home.mkdir(mode=0o700)
        places = ("CONFIG_HOME", "DATA_HOME", "STATE_HOME", "CACHE_HOME", "RUNTIME_DIR")
        own_files = [f"XDG_{place}={home}" for place in places]
        command = [
            "env",
            *own_files,
            *wrap,
            sys.executable,
            "-m",
            "circumvent",
            "run",
            *links,
            "--json",
        ]
        listen = ["--listen", f"127.0.0.1:{port}", *options]
        with Process(self.near.inside([*command, *listen]), home / "log", cwd=ROOT) as process:
            yield Client(port, process, len(links))


def _sing_box(field: Field, column: str, address: str, port: int) -> tuple[str, list[str]]:
    service = COLUMNS[column]
    assert service is not None
    endpoint = Endpoint(service, port, service.new_secret(), field.certificate, address)
    config = field.folder / f"{service.transport}-{address}-{port}.json"
    config.write_text(json.dumps(sing_box.server_config(endpoint)))
    return endpoint.link, [*sing_box.command(), str(config)]


def _relay(field: Field, _: str, address: str, port: int) -> tuple[str, list[str]]:
    place = field.folder / f"relay-{address}"
    command("relay", "init", str(place), "--listen", f"{address}:{port}", "--allow-private")
    configure(place, "[limits]", "sessions = 99", "streams = 9999")  # all clients are one user's
    parts = urlsplit(command("relay", "invite", str(place)).strip())
    pins = [each for each in parts.query.split("&") if each.startswith("pin=")]
    user = parts.netloc.rpartition("@")[0]
    query = "&".join([*pins, "carriers=tls"])
    link = urlunsplit(parts._replace(netloc=f"{user}@{address}:{port}", query=query))
    return link, [sys.executable, "-m", "circumvent", "relay", "run", str(place)]


@dataclass(frozen=True, slots=True)
class Client:
    """A running client."""

    port: int
    process: Process
    tunnels: int

    def events(self, name: str) -> list[dict[str, object]]:
        """The events of that name that it printed."""
        lines = [line for line in self.process.log.splitlines() if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def await_tunnels(self) -> None:
        """Wait until all tunnels are up."""
        self.process.await_that(
            lambda: len(self.events("tunnel_up")) >= self.tunnels,
            f"held {self.tunnels} tunnels",
            timeout=ALL_UP_WITHIN,
        )


@contextmanager
def field(folder: Path, *, pace: float = 1.0, apart: bool = False) -> Iterator[Field]:
    """All networks behind one host, or ``apart`` each behind its own with destinations there."""
    names = [f"far{number}" for number in range(len(NETWORKS) if apart else 1)]
    with hosts(["near", *names], folder) as (near, *far), ExitStack() as stack:
        if apart:
            for host, network in zip(far, NETWORKS, strict=True):
                cable(near, host, [network])
        else:
            cable(near, far[0], NETWORKS)
        near.run(f"ip route add default via {NETWORKS[0]}.2")
        serving = []
        for host in far:
            log = folder / f"destinations-{host.name}.log"
            process = Process(host.inside(serve_command(pace)), log, cwd=ROOT)
            serving.append(stack.enter_context(process))
        places = {each: at if apart else 0 for at, each in enumerate(NETWORKS)}
        yield Field(
            near,
            {network: far[at] for network, at in places.items()},
            {network: serving[at] for network, at in places.items()},
            make_certificate(folder),
            folder,
        )
