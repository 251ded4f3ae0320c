"""A friend's Shadowsocks server becomes one carrier of a session with a relay.

The server connects to the relay and the probe only, so a page can come over the session only. The
server finds the relay at the link's address; the client finds there what the test puts there.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from circumvent.api import CarrierStatus
from tests.bench.contenders import Running, circumvent_with, started, started_origin
from tests.e2e.asking import status
from tests.e2e.bonded import command
from tests.peers import sing_box, socks
from tests.peers.certificates import make_certificate
from tests.peers.destinations import pattern_digest, serve_destinations
from tests.peers.process import Process, free_port
from tests.peers.services import HOST, SHADOWSOCKS, Endpoint
from tests.peers.tcp_path import tcp_path

MB = 1_000_000
PAGE = 10 * MB
LONG = 60 * MB
RATE = 10 * MB  # bytes per second on each connection: enough time to kill some
RELOADS = 20
THROUGH, DIRECT = "tls through tunnels", "tls"


@contextmanager
def relay(folder: Path) -> Iterator[tuple[int, str]]:
    """A relay's port, and an invite to it."""
    place, port = folder / "relay", free_port()
    command("init", str(place), "--listen", f"{HOST}:{port}", "--allow-private")
    link = command("invite", str(place)).strip()
    called = [sys.executable, "-m", "circumvent", "relay", "run", str(place)]
    with Process(called, folder / "relay.log") as running:
        running.await_port(port)
        yield port, link


@contextmanager
def friend(folder: Path, origin: int, at: int, port: int) -> Iterator[Endpoint]:
    """A Shadowsocks server that knows the relay's ``port`` as ``at``, and else only the probe."""
    service = SHADOWSOCKS[0]
    endpoint = Endpoint(service, free_port(), service.new_secret(), make_certificate(folder))
    config = sing_box.server_config(endpoint)
    config["route"] = {
        "default_domain_resolver": "far",
        "rules": [
            {"port": [at], "action": "route", "outbound": "direct", "override_port": port},
            {"port": [origin], "action": "route", "outbound": "direct"},
            {"action": "reject"},
        ],
    }
    path = folder / "friend.json"
    path.write_text(json.dumps(config))
    with Process([*sing_box.command(), str(path)], folder / "friend.log") as process:
        process.await_port(endpoint.port)
        yield endpoint


@contextmanager
def client(folder: Path, port: int, link: str, at: int) -> Iterator[Running]:
    """Our client with the friend's link and the relay's, which it finds ``at`` a port of ours."""
    given = urlsplit(link)
    user, pin = given.netloc.rpartition("@")[0], given.query.partition("&")[0]
    link = given._replace(netloc=f"{user}@{HOST}:{at}", query=pin).geturl()  # by TLS only
    with (
        started_origin(folder) as origin,
        friend(folder, origin, at, port) as endpoint,
        started(circumvent_with(link), [endpoint], folder, origin) as running,
    ):
        yield running


def carriers(running: Running) -> list[CarrierStatus]:
    return [carrier for tunnel in status(running).tunnels for carrier in tunnel.carriers]


def await_kinds(running: Running, *wanted: str) -> None:
    def kinds() -> set[str]:
        return {carrier.kind for carrier in carriers(running) if carrier.state == "up"}

    running.process.await_that(lambda: kinds() == set(wanted), f"held carriers by {wanted}")


def connect(running: Running, site: int) -> socket.socket:
    """A connection over the session; one that the friend refuses is tried again, as by hand."""
    for _ in range(RELOADS):
        connection = socks.connect(running.through.proxy, HOST, site)
        try:
            assert socks.download(connection, 1) == pattern_digest(1)
        except OSError:
            connection.close()
        else:
            return connection
    raise ConnectionError("the session was never used")


def fetch(running: Running, site: int, size: int) -> str:
    with connect(running, site) as connection:
        return socks.download(connection, size)


def test_a_relay_out_of_reach_is_reached_through_another_server(tmp_path: Path) -> None:
    with (
        serve_destinations(tmp_path) as site,
        relay(tmp_path) as (port, link),
        client(tmp_path, port, link, at=free_port()) as running,
    ):
        await_kinds(running, THROUGH)
        assert fetch(running, site.http_port, PAGE) == pattern_digest(PAGE)
        assert sum(carrier.bytes_down for carrier in carriers(running)) > PAGE


def test_a_download_outlives_the_direct_carriers_of_a_mixed_session(tmp_path: Path) -> None:
    with (
        serve_destinations(tmp_path) as site,
        relay(tmp_path) as (port, link),
        tcp_path(port, RATE) as direct,
        tcp_path(port, RATE) as indirect,
        client(tmp_path, indirect.port, link, at=direct.port) as running,
    ):
        await_kinds(running, DIRECT, THROUGH)
        digests: list[str] = []
        fetching = Thread(target=lambda: digests.append(fetch(running, site.http_port, LONG)))
        fetching.start()
        running.process.await_that(
            lambda: any(each.carried > MB for each in tuple(direct.connections)),
            "used the direct way",
        )
        assert fetching.is_alive()
        for each in tuple(direct.connections):
            direct.reset(each)
        fetching.join()
        assert digests == [pattern_digest(LONG)]
        assert any(each.carried > MB for each in tuple(indirect.connections))
