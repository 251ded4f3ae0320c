"""``python -m tests.e2e.greetings FOLDER``: clients' lives on a network of their own, sniffed.

They discover, race, and browse over every way that goes through TLS, also through a server that
speaks no TLS 1.3. What was seen is printed as JSON. Run it where nobody else uses the loopback.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.test_relay_fronts import NAME, kinds, nginx, running_relay, status
from tests.e2e.world import ZONE, World, world
from tests.peers import relay, sing_box, socks
from tests.peers.certificates import Certificate, make_certificate
from tests.peers.clients import circumvent_client, environment
from tests.peers.destinations import Destinations, serve_destinations
from tests.peers.process import Process, free_port
from tests.peers.servers import sing_box_server
from tests.peers.services import HOST, TROJAN, VLESS_WEBSOCKET_TLS, Endpoint
from tests.peers.sniffer import Sniffer, sniffing

VISITS = 4  # with each client: tickets come, and are used
SIZE = 100_000
LOCAL_PORTS = 32768  # from here on, the system gives ports to clients
OLD = "trojan without TLS 1.3"
CARRIERS = {"relay": {"tls"}, "relay behind nginx": {"websocket", "fronted"}}
DIRECT, FRONTED = CARRIERS


@dataclass
class Seen:
    """``greetings``: what was said first on each connection to a port that speaks TLS, in hex.

    ``others`` are ports that nobody meant and that got something, over TCP or UDP. ``warnings``
    are those of ``status``, of the client of the old server and of all others.
    """

    greetings: list[tuple[str, str]] = field(default_factory=list)
    others: list[int] = field(default_factory=list)
    old_warnings: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scene:
    """Servers of all kinds; ``ports`` are those that speak TLS, ``plain`` all others, by name."""

    folder: Path
    authority: Path
    destinations: Destinations
    links: dict[str, str]
    operated: World
    ports: dict[str, int]
    plain: dict[str, int]

    def discover(self) -> None:
        """Ask each source, whatever the others bring."""
        secure = f"dns:{ZONE}?resolver=tls://{HOST}:{self.operated.names.tls}"
        sources = [*(self.operated.sources[name] for name in ("https", "fronted")), secure]
        command = [sys.executable, "-m", "circumvent", "discover", "--json", "--allow-private"]
        command += [f"--key={self.operated.key}", *(f"--source={each}" for each in sources)]
        trust = {"SSL_CERT_FILE": str(self.authority)}
        subprocess.run(
            command,
            env={**environment(self.folder), **trust},
            stdout=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )

    def browse(self, *names: str) -> list[str]:
        """Run a client with these links, visit some pages; the warnings of its ``status``."""
        trust = ["env", f"SSL_CERT_FILE={self.authority}"]
        with circumvent_client(
            [self.links[name] for name in names],
            self.folder,
            self.destinations,
            wrap=lambda command: [*trust, *command],
        ) as client:
            self.plain[f"inbound {client.port}"] = client.port
            for _ in range(VISITS):
                with socks.connect(client.port, HOST, self.destinations.http_port) as connection:
                    socks.download(connection, SIZE)
            wanted = CARRIERS.get(names[0], set()) if len(names) == 1 else set()
            client.process.await_that(lambda: kinds(client) >= wanted, f"used {wanted}")
            return list(status(client).warnings)


def main(folder: Path) -> Seen:
    """Live it all, and tell."""
    seen = Seen()
    with sniffing() as sniffer, scene(folder) as place:
        place.discover()
        seen.old_warnings = place.browse(OLD)
        ways = [name for name in place.links if name != OLD]
        seen.warnings = [text for name in ways for text in place.browse(name)]
        seen.warnings += place.browse(*ways)
    _sort(sniffer, place, seen)
    return seen


def _sort(sniffer: Sniffer, place: Scene, seen: Seen) -> None:
    names = {port: name for name, port in place.ports.items()}
    others = set(sniffer.udp)
    for port, way in sniffer.tcp:
        if port in names and way.first:
            seen.greetings.append((names[port], way.first.hex()))
        elif way.first:
            others.add(port)
    # Below these are servers; what comes back to a client goes to a port above.
    seen.others = sorted(port for port in others - set(place.plain.values()) if port < LOCAL_PORTS)


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Start all servers."""
    certificate = make_certificate(folder)
    front = folder / "front"
    front.mkdir()
    web = make_certificate(front, NAME)
    authority = folder / "authorities.pem"
    authority.write_bytes(certificate.authority.read_bytes() + web.authority.read_bytes())
    with ExitStack() as stack:
        enter = stack.enter_context
        destinations = enter(serve_destinations(folder))
        trojan = enter(sing_box_server(TROJAN, folder, certificate)).endpoint
        vless = enter(sing_box_server(VLESS_WEBSOCKET_TLS, folder, certificate)).endpoint
        old = enter(_old_server(folder, certificate))
        direct = enter(_direct_relay(folder))
        hidden, public = free_port(), free_port()
        enter(nginx(front, web, hidden, public))
        fronted = enter(running_relay(front, hidden, public, json.dumps(sorted(CARRIERS[FRONTED]))))
        operated = enter(world(folder, certificate, [trojan.link]))
        links = {"trojan": trojan.link, "vless": vless.link, OLD: old.link}
        links |= {DIRECT: direct.link, FRONTED: fronted}
        ports = {"trojan": trojan.port, "vless": vless.port, OLD: old.port}
        ports |= {DIRECT: direct.port, FRONTED: public, "DNS": operated.names.tls}
        ports["channels"] = urlsplit(operated.sources["https"]).port or 0
        plain = {
            "site": destinations.http_port,
            "echo": destinations.echo_port,
            "relay itself": hidden,
        }
        plain |= {"zone": operated.names.port, "zone over HTTP": operated.names.http}
        yield Scene(folder, authority, destinations, links, operated, ports, plain)


@contextmanager
def _old_server(folder: Path, certificate: Certificate) -> Iterator[Endpoint]:
    endpoint = Endpoint(TROJAN, free_port(), TROJAN.new_secret(), certificate)
    config = sing_box.server_config(endpoint)
    config["inbounds"][0]["tls"]["max_version"] = "1.2"  # type: ignore[index]
    file = folder / "old.json"
    file.write_text(json.dumps(config))
    with Process([*sing_box.command(), str(file)], folder / "old.log") as process:
        process.await_port(endpoint.port)
        yield endpoint


@contextmanager
def _direct_relay(folder: Path) -> Iterator[relay.RunningRelay]:
    place = folder / "direct"
    with relay.running_relay(place, relay.make_relay(place)) as running:
        yield running


if __name__ == "__main__":
    print(json.dumps(asdict(main(Path(sys.argv[1])))))
