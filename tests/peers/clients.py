"""Our own client as a user runs it: a process with a home of its own."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from tests.peers import socks
from tests.peers.destinations import ROOT, Destinations
from tests.peers.process import Process, free_port

READY_TIMEOUT = 60.0  # seconds from the start to the first answer through a tunnel

Wrap = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Client:
    """A running ``circumvent run``; ``port`` is its inbound on 127.0.0.1."""

    port: int
    process: Process
    home: Path


@contextmanager
def circumvent_client(
    links: Sequence[str],
    folder: Path,
    destinations: Destinations,
    *options: str,
    wrap: Wrap = list,
) -> Iterator[Client]:
    """Run it until a request went through it; ``wrap`` changes how the command is started."""
    port = free_port()
    home = Path(tempfile.mkdtemp(prefix="home-", dir=folder))  # ports come back
    listen = f"127.0.0.1:{port}"
    command = wrap(
        [
            *(sys.executable, "-m", "circumvent", "run", *links),
            *("--listen", listen, "--probe-url", destinations.probe_url, *options),
        ]
    )
    with Process(command, folder / f"client-{port}.log", env=environment(home), cwd=ROOT) as child:
        child.await_that(lambda: _answers(port, destinations), "carried a request", READY_TIMEOUT)
        yield Client(port, child, home)


def environment(home: Path) -> dict[str, str]:
    """In which a client's files are under ``home``."""
    places = ("CONFIG", "STATE", "DATA", "CACHE")
    return {
        **os.environ,
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        **{f"XDG_{place}_HOME": str(home / place.lower()) for place in places},
    }


def _answers(port: int, destinations: Destinations) -> bool:
    try:
        with (
            socks.connect(port, "127.0.0.1", destinations.http_port, timeout=3) as connection,
            socks.get(connection, "/generate_204") as response,
        ):
            return response.status == HTTPStatus.NO_CONTENT
    except (OSError, socks.SocksError):
        return False
