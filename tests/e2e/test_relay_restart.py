"""The only relay is killed and started anew: requests wait meanwhile, and are answered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

import pytest

from tests.peers import socks
from tests.peers.client import RunningClient, running_client
from tests.peers.destinations import Destinations, pattern_digest, serve_destinations
from tests.peers.relay import make_relay, running_relay

HOST = "127.0.0.1"
SIZE = 10_000
EVERY = 0.1  # seconds between two requests
AT_ONCE = 100  # more than are asked during an outage
AFTERWARDS = 2.0  # seconds of asking after the relay is back
RESUMED = 2.0  # seconds that a request may take once it is back


def fetch(client: RunningClient, site: Destinations) -> float:
    """Seconds that a new stream and its answer took; raises OSError, SocksError."""
    started = time.monotonic()
    with socks.connect(client.port, HOST, site.http_port) as stream:
        assert socks.download(stream, SIZE) == pattern_digest(SIZE)
    return time.monotonic() - started


@contextmanager
def asking(client: RunningClient, site: Destinations) -> Iterator[list[float]]:
    """Ask again and again until the context ends; then the list holds what each one took."""
    seconds: list[float] = []
    over = Event()

    def ask() -> list[Future[float]]:
        asked = []
        while not over.wait(EVERY):
            asked.append(pool.submit(fetch, client, site))
        return asked

    with ThreadPoolExecutor(AT_ONCE) as pool:
        asking_on = pool.submit(ask)
        try:
            yield seconds
        finally:
            over.set()
        seconds += [each.result() for each in asking_on.result()]


@pytest.mark.parametrize("outage", [0.5, 3.0])
def test_new_requests_wait_for_a_relay_that_is_started_anew(tmp_path: Path, outage: float) -> None:
    directory = tmp_path / "relay"
    port = make_relay(directory)
    with ExitStack() as stack:
        site = stack.enter_context(serve_destinations(tmp_path))
        relay = stack.enter_context(running_relay(directory, port))
        client = stack.enter_context(
            running_client(tmp_path / "client", [relay.link], site.probe_url)
        )
        client.await_carriers(3)
        relay.process.kill()
        with asking(client, site) as seconds:
            time.sleep(outage)
            down = time.monotonic()
            stack.enter_context(running_relay(directory, port))
            down = outage + time.monotonic() - down
            time.sleep(AFTERWARDS)
    print(f"{len(seconds)} requests, down for {down:.1f} s, the slowest took {max(seconds):.1f} s")
    assert max(seconds) < down + RESUMED
