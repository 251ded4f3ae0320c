"""Who is measured, and what is started around it."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.load import Load, LoadError, Through
from tests.peers import mihomo, sing_box
from tests.peers.process import Process, free_port
from tests.peers.services import HOST, Endpoint

FIRST_FETCH = 4096  # bytes

Command = Callable[[Sequence[Endpoint], int, Path, str], list[str]]


@dataclass(frozen=True, slots=True)
class Contender:
    """A client: the command for these servers, that port, this folder and that probe URL."""

    name: str
    command: Command


@dataclass(frozen=True, slots=True)
class Running:
    """A started client, the way through it and its files."""

    contender: Contender
    process: Process
    through: Through
    home: Path


def circumvent_with(*extra: str, module: str = "circumvent") -> Contender:
    """Our client as a user starts it, with ``extra`` options, or by another module."""

    def command(endpoints: Sequence[Endpoint], port: int, _home: Path, probe_url: str) -> list[str]:
        links = [endpoint.link for endpoint in endpoints]
        options = ["--listen", f"{HOST}:{port}", "--probe-url", probe_url, *extra]
        return [sys.executable, "-m", module, "run", *links, *options]

    return Contender("circumvent", command)


def sing_box_client(
    endpoints: Sequence[Endpoint], port: int, home: Path, probe_url: str
) -> list[str]:
    """The sing-box client; over several servers it uses urltest as it comes."""
    config = home / "config.json"
    config.write_text(json.dumps(sing_box.client_config(endpoints, port, probe_url)))
    return [*sing_box.command(), str(config)]


def mihomo_client(
    endpoints: Sequence[Endpoint], port: int, home: Path, _probe_url: str
) -> list[str]:
    """The mihomo client, over the first server."""
    config = home / "config.json"
    config.write_text(json.dumps(mihomo.client_config(endpoints[0], port)))
    return [*mihomo.command(home), str(config)]


OURS = circumvent_with()
PEER = Contender("sing-box", sing_box_client)
MIHOMO = Contender("mihomo", mihomo_client)


def own_files(home: Path) -> Mapping[str, str]:
    """An environment in which a client's files are under ``home``."""
    places = ("CONFIG_HOME", "DATA_HOME", "STATE_HOME", "CACHE_HOME", "RUNTIME_DIR")
    return os.environ | {f"XDG_{place}": str(home) for place in places}


@contextmanager
def started_origin(folder: Path) -> Iterator[int]:
    """Run the origin; its port."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.origin", str(port)]
    with Process(command, folder / f"origin-{port}.log") as process:
        process.await_port(port)
        yield port


@contextmanager
def started(
    contender: Contender,
    endpoints: Sequence[Endpoint],
    folder: Path,
    origin: int,
    *,
    is_tls: bool = False,
) -> Iterator[Running]:
    """Run a client; it has fetched something by the time this gives it.

    ``is_tls``: whether the loads through it look like TLS.
    """
    port = free_port()
    home = folder / f"{contender.name}-{port}"
    home.mkdir(mode=0o700)
    command = contender.command(endpoints, port, home, f"http://{HOST}:{origin}/generate_204")
    with Process(command, home / "log", env=own_files(home)) as process:
        running = Running(contender, process, Through(port, origin, is_tls), home)
        process.await_port(port)
        process.await_that(lambda: fetches(running.through), "fetched through its server")
        yield running


def fetches(through: Through) -> bool:
    """Whether a small fetch works."""
    try:
        load = Load(through)
        load.run([load.fetch(FIRST_FETCH)], at_once=1)
    except (LoadError, OSError):
        return False
    return True
