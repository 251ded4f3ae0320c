"""``circumvent relay`` and ``circumvent run``: an operator's process and a user's."""

from __future__ import annotations

import hashlib
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.probing import wrapped
from tests.peers import socks
from tests.peers.client import RunningClient, running_client
from tests.peers.destinations import Destinations, pattern_digest, serve_destinations
from tests.peers.process import free_port
from tests.peers.relay import RunningRelay, command, configure, make_relay, running_relay

HOST = "127.0.0.1"
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class World:
    relay: RunningRelay
    client: RunningClient
    destinations: Destinations


@pytest.fixture(scope="module")
def destinations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Destinations]:
    with serve_destinations(tmp_path_factory.mktemp("destinations")) as running:
        yield running


@contextmanager
def world(folder: Path, destinations: Destinations, *lines: str) -> Iterator[World]:
    """A relay with ``lines`` in its configuration, and its first user."""
    directory = folder / "relay"
    port = make_relay(directory)
    configure(directory, *lines)
    with (
        running_relay(directory, port) as relay,
        running_client(folder / "client", [relay.link], destinations.probe_url) as client,
    ):
        yield World(relay, client, destinations)


def fetch(client: RunningClient, port: int, path: str, host: str = HOST) -> str:
    """The SHA-256 of a page's body."""
    digest = hashlib.sha256()
    for piece in download(client, port, path, host):
        digest.update(piece)
    return digest.hexdigest()


def download(client: RunningClient, port: int, path: str, host: str = HOST) -> Iterator[bytes]:
    with socks.connect(client.port, host, port) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        with connection.makefile("rb") as answer:
            while answer.readline() not in (b"\r\n", b""):
                pass
            while piece := answer.read(65536):
                yield piece


def test_a_page_comes_through_and_status_names_the_carriers(
    tmp_path: Path, destinations: Destinations
) -> None:
    with world(tmp_path, destinations) as made:
        size = 20 * MIB
        path = f"/bytes/{size}"
        assert fetch(made.client, destinations.http_port, path) == pattern_digest(size)
        assert fetch(made.client, destinations.http_port, path, "localhost") == pattern_digest(size)
        carriers = made.client.await_carriers(3)
        assert {carrier.kind for carrier in carriers} == {"tls", "websocket"}
        assert all(carrier.rtt_ms >= 0 for carrier in carriers)
        assert sum(carrier.bytes_down for carrier in carriers) > 2 * size
        (user,) = user_rows(made.relay)
        assert (user["name"], user["sessions"], user["carriers"]) == ("first", 1, 3)
        assert user["bytes_down"] > 2 * size


def user_rows(relay: RunningRelay) -> list[dict[str, Any]]:
    rows = relay.status()["users"]
    assert isinstance(rows, list)
    return rows


def test_a_lab_is_permitted_by_name_only(tmp_path: Path, destinations: Destinations) -> None:
    directory = tmp_path / "relay"
    port = make_relay(directory)
    file = directory / "relay.toml"
    file.write_text(file.read_text().replace("allow_private = true", "allow_private = false"))
    client = partial(running_client, tmp_path / "client", until="last_resort")
    with (
        running_relay(directory, port) as relay,
        client([relay.link], destinations.probe_url) as up,
    ):
        refused = relay.status()["refused"]
        assert isinstance(refused, dict)
        assert refused["forbidden"] > 0
        with socks.connect(up.port, HOST, destinations.http_port) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                connection.recv(1)


def test_users_come_and_go_while_sessions_go_on(tmp_path: Path, destinations: Destinations) -> None:
    with world(tmp_path, destinations) as made:
        relay = made.relay
        anna = command("relay", "invite", str(relay.directory), "--new", "anna").strip()
        pieces = download(made.client, destinations.http_port, f"/bytes/{30 * MIB}")
        received = len(next(pieces))
        relay.process.send(signal.SIGHUP)
        relay.process.await_that(lambda: len(user_rows(relay)) == 2, "knew the new user")
        with running_client(tmp_path / "anna", [anna], destinations.probe_url) as other:
            assert fetch(other, destinations.http_port, "/bytes/9") == pattern_digest(9)
            received += sum(map(len, pieces))
            assert received == 30 * MIB
            remove_user(relay, "anna")
            relay.process.await_that(lambda: len(user_rows(relay)) == 1, "forgot the user")
            assert user_rows(relay)[0]["sessions"] == 1
            other.process.await_that(lambda: not other.carriers(), "was shut out")


def test_a_new_token_ends_the_sessions_of_the_old_one(
    tmp_path: Path, destinations: Destinations
) -> None:
    with world(tmp_path, destinations) as made:
        relay, file = made.relay, made.relay.directory / "users.toml"
        assert user_rows(relay)[0]["sessions"] == 1
        file.write_text(re.sub(r'(token = ")(....)', r"\1AAAA", file.read_text()))
        relay.process.send(signal.SIGHUP)
        relay.process.await_that(lambda: user_rows(relay)[0]["sessions"] == 0, "ended the session")


def remove_user(relay: RunningRelay, name: str) -> None:
    file = relay.directory / "users.toml"
    entries = re.split(r"(?=\[\[users\]\])", file.read_text())
    file.write_text("".join(entry for entry in entries if f'"{name}"' not in entry))
    relay.process.send(signal.SIGHUP)


def test_a_mistake_in_a_file_changes_nothing(tmp_path: Path, destinations: Destinations) -> None:
    with world(tmp_path, destinations) as made:
        relay = made.relay
        users = relay.directory / "users.toml"
        users.write_text(users.read_text() + "\n[[users]]\nnick = 'x'\n")
        relay.process.send(signal.SIGHUP)
        relay.process.await_that(lambda: "nothing was reloaded" in relay.process.log, "complained")
        assert "unknown key users[1].nick" in relay.process.log
        assert fetch(made.client, destinations.http_port, "/bytes/9") == pattern_digest(9)


def test_open_streams_end_before_the_relay_does(tmp_path: Path, destinations: Destinations) -> None:
    with world(tmp_path, destinations) as made:
        with socks.connect(made.client.port, HOST, destinations.echo_port) as connection:
            assert answers(connection)
            made.relay.process.send(signal.SIGTERM)
            made.relay.process.await_that(
                lambda: made.relay.status()["state"] == "draining", "was draining"
            )
            with ExitStack() as stack:
                assert not is_served(made, stack)
            assert answers(connection)
        assert made.relay.process.wait() == 0


def answers(connection: socket.socket) -> bool:
    """Whether the echo of what is sent comes back."""
    connection.sendall(b"x")
    return connection.recv(1) == b"x"


def test_a_second_signal_stops_at_once(tmp_path: Path, destinations: Destinations) -> None:
    with world(tmp_path, destinations) as made, ExitStack() as stack:
        assert is_served(made, stack)
        made.relay.process.send(signal.SIGTERM)
        made.relay.process.await_that(
            lambda: made.relay.status()["state"] == "draining", "was draining"
        )
        made.relay.process.send(signal.SIGTERM)
        assert made.relay.process.wait() == 130


def test_the_relay_may_be_killed_and_come_back(tmp_path: Path, destinations: Destinations) -> None:
    directory = tmp_path / "relay"
    port = make_relay(directory)
    with ExitStack() as stack:
        relay = stack.enter_context(running_relay(directory, port))
        client = stack.enter_context(
            running_client(tmp_path / "client", [relay.link], destinations.probe_url)
        )
        relay.process.kill()
        stack.enter_context(running_relay(directory, port))
        client.await_carriers(1)
        assert fetch(client, destinations.http_port, "/bytes/9") == pattern_digest(9)


def test_metrics_name_no_host_and_no_user(tmp_path: Path, destinations: Destinations) -> None:
    metrics = free_port()
    with world(tmp_path, destinations, f'metrics = "{HOST}:{metrics}"') as made:
        fetch(made.client, destinations.http_port, f"/bytes/{MIB}", "localhost")
        with urllib.request.urlopen(f"http://{HOST}:{metrics}/metrics") as answer:
            text = answer.read().decode()
        down = re.search(
            r'^circumvent_relay_bytes_total\{direction="down"\} (.*)$', text, re.MULTILINE
        )
        assert down is not None
        assert float(down[1]) > MIB
        assert "circumvent_relay_sessions 1" in text
        for secret in ("localhost", str(destinations.http_port), "first"):
            assert secret not in text


def test_limits_hold(tmp_path: Path, destinations: Destinations) -> None:
    limits = ("[limits]", "sessions = 1", "streams = 8")
    with world(tmp_path, destinations, *limits) as made, ExitStack() as stack:
        assert [is_served(made, stack) for _ in range(7)] == [True] * 7
        assert False in [is_served(made, stack) for _ in range(3)]
        second = running_client(
            tmp_path / "second", [made.relay.link], destinations.probe_url, until="none_up"
        )
        with second:
            assert user_rows(made.relay)[0]["sessions"] == 1


def is_served(made: World, stack: ExitStack) -> bool:
    """Whether one more connection works; the connection stays open."""
    try:
        connection = stack.enter_context(
            socks.connect(made.client.port, HOST, made.destinations.echo_port, timeout=3)
        )
        return answers(connection)
    except (OSError, socks.SocksError):
        return False


def test_a_fleet_shares_nothing_and_spreads_its_clients(
    tmp_path: Path, destinations: Destinations
) -> None:
    """Three relays on one machine: a client uses several, and one may end unnoticed."""
    with ExitStack() as stack:
        relays = []
        for number in range(3):
            directory = tmp_path / f"relay{number}"
            relays.append(stack.enter_context(running_relay(directory, make_relay(directory))))
        links = [relay.link for relay in relays]
        client = stack.enter_context(
            running_client(tmp_path / "client", links, destinations.probe_url)
        )
        client.process.await_that(lambda: len(client.status().tunnels) == 3, "held three tunnels")
        for number, relay in enumerate(relays[:2], start=1):
            relay.process.kill()
            client.process.await_that(partial(has_lost, client, number), "noticed it")
            assert fetch(client, destinations.http_port, "/bytes/99") == pattern_digest(99)


def has_lost(client: RunningClient, relays: int) -> bool:
    """Whether the client knows that so many relays do not answer any more."""
    return sum(not tunnel.carriers for tunnel in client.status().tunnels) == relays


def test_strangers_see_the_site(tmp_path: Path, destinations: Destinations) -> None:
    with world(tmp_path, destinations) as made:
        page = (made.relay.directory / "site" / "index.html").read_bytes()
        with (
            socket.create_connection((HOST, made.relay.port)) as raw,
            wrapped(raw) as connection,
        ):
            connection.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.endswith(b"\r\n\r\n" + page)
