"""``circumvent run`` over a relay behind web servers, configured as docs/fronts.md says."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
import pytest

from circumvent.links.relay import parse_relay_link
from circumvent.status.snapshot import Status
from circumvent.wire.knock import KnockKind
from tests.e2e.probing import knock, wrapped
from tests.peers import socks
from tests.peers.certificates import Certificate, make_certificate
from tests.peers.clients import Client, circumvent_client, environment
from tests.peers.destinations import ROOT, Destinations, pattern_digest, serve_destinations
from tests.peers.nginx import HEAD
from tests.peers.process import Process, free_port
from tests.peers.stranger import SPOILERS, stranger_at_work

HOST = "127.0.0.1"
NAME = "relay.example"
SIZE = 20_000_000
BLOCK = re.compile(r"^```[a-z]+ (?P<name>[\w.]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = {
    block["name"]: block["text"] for block in BLOCK.finditer((ROOT / "docs/fronts.md").read_text())
}
NGINX = HEAD + "{front} }}"
HAPROXY = """
defaults
    timeout connect 5s
    timeout client 60s
    timeout server 60s
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"), NAME)


@pytest.fixture(scope="module")
def destinations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Destinations]:
    with serve_destinations(tmp_path_factory.mktemp("destinations")) as running:
        yield running


def circumvent(*arguments: str) -> str:
    command = [sys.executable, "-m", "circumvent", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


@contextmanager
def running_relay(folder: Path, server: int, front: int, carriers: str) -> Iterator[str]:
    """Run a relay set up by the operator's commands; gives its invite."""
    directory = folder / "relay"
    circumvent(
        *("relay", "init", str(directory), "--allow-private"),
        *("--listen", f"{HOST}:{server}", "--public", f"{HOST}:{front}"),
    )
    file = directory / "relay.toml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("carriers")]
    documented = BLOCKS["relay.toml"].partition("\n\n")[2]
    web = documented.replace("front.example:443", f"{HOST}:{front}")
    file.write_text(f"carriers = {carriers}\n" + "\n".join(lines) + "\n" + web)
    command = [sys.executable, "-m", "circumvent", "relay", "run", str(directory)]
    with Process(command, folder / "relay.log") as process:
        process.await_port(server)
        yield circumvent("relay", "invite", str(directory)).strip().splitlines()[-1]


@contextmanager
def nginx(folder: Path, certificate: Certificate, server: int, port: int) -> Iterator[None]:
    front = placed(BLOCKS["front.conf"], certificate, port)
    front = front.replace("127.0.0.1:8080", f"{HOST}:{server}")
    with run_nginx(folder, front, port):
        yield


@contextmanager
def nginx_that_keeps_connections(
    folder: Path, certificate: Certificate, server: int, port: int
) -> Iterator[None]:
    """The same, but many people use one connection to the relay, one after the other."""
    upstream = f"upstream relay {{ server {HOST}:{server}; keepalive 1; }}\n"
    kept = BLOCKS["front.conf"].replace("'' close;", "'' '';")
    assert kept != BLOCKS["front.conf"]
    kept = kept.replace("http://127.0.0.1:8080", "http://relay")
    with run_nginx(folder, upstream + placed(kept, certificate, port), port):
        yield


def placed(front: str, certificate: Certificate, port: int) -> str:
    return (
        front.replace("listen 443", f"listen {HOST}:{port}")
        .replace("/etc/ssl/relay.example.pem", str(certificate.chain))
        .replace("/etc/ssl/relay.example.key", str(certificate.key))
    )


@contextmanager
def run_nginx(folder: Path, front: str, port: int) -> Iterator[None]:
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, front=front))
    with Process(["nginx", "-c", str(file), "-p", str(folder)], folder / "nginx.log") as process:
        process.await_port(port)
        yield


@contextmanager
def haproxy(folder: Path, certificate: Certificate, server: int, port: int) -> Iterator[None]:
    pem, file = folder / "haproxy.pem", folder / "haproxy.cfg"
    pem.write_bytes(certificate.chain.read_bytes() + certificate.key.read_bytes())
    front = (
        BLOCKS["haproxy.cfg"]
        .replace("bind :443", f"bind {HOST}:{port}")
        .replace("/etc/ssl/relay.example.pem", str(pem))
        .replace("127.0.0.1:8080", f"{HOST}:{server}")
    )
    file.write_text(HAPROXY + front)
    with Process(["haproxy", "-db", "-f", str(file)], folder / "haproxy.log") as process:
        process.await_port(port)
        yield


Front = Callable[[Path, Certificate, int, int], AbstractContextManager[None]]


@pytest.mark.parametrize("front", [nginx, haproxy], ids=lambda front: front.__name__)
@pytest.mark.parametrize("carriers", ['["websocket"]', '["fronted"]', '["websocket", "fronted"]'])
def test_a_client_with_only_an_invite_gets_through(
    front: Front,
    carriers: str,
    tmp_path: Path,
    certificate: Certificate,
    destinations: Destinations,
) -> None:
    server, port = free_port(), free_port()
    trust = ["env", f"SSL_CERT_FILE={certificate.authority}"]
    with (
        front(tmp_path, certificate, server, port),
        running_relay(tmp_path, server, port, carriers) as invite,
        circumvent_client(
            [invite], tmp_path, destinations, wrap=lambda command: [*trust, *command]
        ) as client,
    ):
        with socks.connect(client.port, HOST, destinations.http_port) as connection:
            assert socks.download(connection, SIZE) == pattern_digest(SIZE)
        with socks.connect(client.port, HOST, destinations.http_port) as connection:
            assert socks.upload(connection, SIZE // 4) == pattern_digest(SIZE // 4)
        wanted = set(msgspec.json.decode(carriers))
        client.process.await_that(lambda: kinds(client) == wanted, f"used {carriers}")


@pytest.mark.parametrize(
    "front", [nginx_that_keeps_connections, haproxy], ids=lambda front: front.__name__
)
def test_a_stranger_cannot_break_a_users_tunnel(
    front: Front, tmp_path: Path, certificate: Certificate, destinations: Destinations
) -> None:
    """The front may have used a stranger's connection for the next knock."""
    server, port = free_port(), free_port()
    trust = ["env", f"SSL_CERT_FILE={certificate.authority}"]
    with (
        front(tmp_path, certificate, server, port),
        running_relay(tmp_path, server, port, '["websocket", "fronted"]') as invite,
        stranger_at_work(port, NAME) as stranger,
        circumvent_client(
            [invite], tmp_path, destinations, wrap=lambda command: [*trust, *command]
        ) as client,
    ):
        for _ in range(4):
            with socks.connect(client.port, HOST, destinations.http_port) as connection:
                assert socks.download(connection, SIZE // 10) == pattern_digest(SIZE // 10)
    assert stranger.answers > 5


@pytest.mark.parametrize(
    "front", [nginx_that_keeps_connections, haproxy], ids=lambda front: front.__name__
)
def test_a_knock_on_a_spoiled_connection_is_recognised(
    front: Front, tmp_path: Path, certificate: Certificate
) -> None:
    """It goes over the connection that was spoiled, or over the next one if that was closed."""
    server, port = free_port(), free_port()
    with (
        front(tmp_path, certificate, server, port),
        running_relay(tmp_path, server, port, '["websocket"]') as invite,
    ):
        key = parse_relay_link(invite).knock_key
        deaf = [spoiler for spoiler in SPOILERS if not is_recognised(port, key, spoiler)]
    assert deaf == []


def is_recognised(port: int, key: bytes, spoiler: bytes) -> bool:
    """HAProxy keeps a client's connection together with its own, nginx one for all of them."""
    first = open_tls(port)
    with first:
        first.sendall(spoiler)
        answered = first.recv(65536)
        is_kept = answered.startswith(b"HTTP/1.1 2") and is_quiet(first)
        with first if is_kept else open_tls(port) as second:
            second.sendall(knock(key, KnockKind.WEBSOCKET, int(time.time())))
            return second.recv(65536).startswith(b"HTTP/1.1 101 ")


def open_tls(port: int) -> ssl.SSLSocket:
    return wrapped(socket.create_connection((HOST, port), timeout=5))


def is_quiet(connection: ssl.SSLSocket) -> bool:
    """Whether the answer is over while the connection stays open."""
    connection.settimeout(0.1)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return True
    finally:
        connection.settimeout(5)
    return False


def kinds(client: Client) -> set[str]:
    return {carrier.kind for tunnel in status(client).tunnels for carrier in tunnel.carriers}


def status(client: Client) -> Status:
    answer = subprocess.run(
        [sys.executable, "-m", "circumvent", "status", "--json"],
        env=environment(client.home),
        capture_output=True,
        check=True,
        timeout=20,
    )
    return msgspec.json.decode(answer.stdout, type=Status)
