"""A fleet: relays that know nothing of each other, one signed list, clients of one invite."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.world import operate, sign
from tests.peers import socks
from tests.peers.client import RunningClient, running_client
from tests.peers.destinations import Destinations, pattern_digest, serve_destinations
from tests.peers.relay import RunningRelay, make_relay, running_relay

HOST = "127.0.0.1"
RELAYS, CLIENTS = 3, 3
SIZE = 1_000_000
AT_ONCE = 6  # streams of each client: more than one relay's share of them
NEW_STREAMS_WITHIN = 5.0  # seconds after a relay fell
PATIENCE = 1.0  # seconds; what was opened in the moment of the fall waits for the relay to return


@dataclass(frozen=True, slots=True)
class Fleet:
    """Relays and the clients that found them by one list."""

    relays: Sequence[RunningRelay]
    clients: Sequence[RunningClient]
    site: Destinations

    def fetch(self) -> None:
        """Let every client fetch over a new stream; raises OSError, SocksError."""
        for client in self.clients:
            with socks.connect(client.port, HOST, self.site.http_port, timeout=PATIENCE) as stream:
                assert socks.download(stream, SIZE) == pattern_digest(SIZE)

    def loads(self) -> list[int]:
        """Bytes that each relay has carried to its users."""
        return [sum(user["bytes_down"] for user in _users(relay)) for relay in self.relays]


def _users(relay: RunningRelay) -> list[dict[str, int]]:
    rows = relay.status()["users"]
    assert isinstance(rows, list)
    return rows


@contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """Three relays in one bundle, and clients that were given only an invite."""
    with ExitStack() as stack:
        site = stack.enter_context(serve_destinations(folder))
        relays = [
            stack.enter_context(running_relay(place, make_relay(place)))
            for place in (folder / f"relay{number}" for number in range(RELAYS))
        ]
        invite = publish(folder, [relay.link for relay in relays])
        clients = [
            stack.enter_context(
                running_client(folder / f"client{number}", [invite], site.probe_url)
            )
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.process.await_that(partial(holds_all, client), "held all relays")
        yield Fleet(relays, clients, site)


def holds_all(client: RunningClient) -> bool:
    """Whether it has a session with each relay."""
    return len(client.status().tunnels) == RELAYS


def publish(folder: Path, links: Sequence[str]) -> str:
    """Publish the relays' invites as an operator does; returns the invite for new users."""
    operate("keygen", "--out", str(folder / "authority"))
    bundle = sign(folder, folder / "authority" / "key", links, version=1)
    trust = folder / "authority" / "key.pub"
    return operate("invite", "--trust", str(trust), "--source", f"file:{bundle}").strip()


@pytest.mark.timeout(90)
def test_clients_of_one_list_spread_and_outlive_a_relay(tmp_path: Path) -> None:
    with fleet(tmp_path) as made:
        with ExitStack() as stack:
            load_all(made, stack)
            loads = made.loads()
            print("MB that each relay carried:", [load // 1_000_000 for load in loads])
            assert sum(load > SIZE for load in loads) >= 2
        busiest = made.relays[loads.index(max(loads))]
        busiest.process.send(signal.SIGKILL)
        seconds = until_all_fetch(made)
        print(f"all clients fetch {seconds:.1f} s after it was killed")
        assert seconds <= NEW_STREAMS_WITHIN


def load_all(made: Fleet, stack: ExitStack) -> None:
    """Let every client fetch over several streams that are open at the same time."""
    for client in made.clients:
        streams = [
            stack.enter_context(socks.connect(client.port, HOST, made.site.http_port))
            for _ in range(AT_ONCE)
        ]
        for stream in streams:
            stream.sendall(f"GET /bytes/{SIZE} HTTP/1.1\r\nHost: site\r\n\r\n".encode())
        for stream in streams:
            socks.read_exactly(stream, SIZE)


def until_all_fetch(made: Fleet) -> float:
    """Seconds until all clients fetch over new streams; attempts that fail are repeated."""
    began = time.monotonic()
    while time.monotonic() - began < NEW_STREAMS_WITHIN * 3:
        try:
            made.fetch()
        except (OSError, socks.SocksError):
            continue
        break
    return time.monotonic() - began
