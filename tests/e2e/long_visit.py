"""A browser on a page with long transfers, while the paths to the servers break."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from tests.peers.browser import ALONE, QUIET
from tests.peers.process import Process, free_port
from tests.peers.services import HOST
from tests.peers.tcp_path import PathConnection, TcpPath

LOOPBACK_TOO = "--proxy-bypass-list=<-loopback>"  # Chromium goes direct there otherwise
PATIENCE = 10.0  # seconds after the last fault until the page must have said something

PathConnections = Callable[[], Sequence[tuple[TcpPath, PathConnection]]]


@dataclass(frozen=True, slots=True)
class Visit:
    """What the page saw; ``broken`` is how many connections were broken meanwhile, and how."""

    seconds: float
    report: dict[str, object]
    broken: tuple[str, ...]

    @property
    def faults(self) -> object:
        """What a person would have noticed."""
        return self.report.get("faults", ["the page never finished"])

    def __str__(self) -> str:
        resets = self.broken.count("reset")
        seen = json.dumps(self.report) if self.report else "the download never end"
        return (
            f"{self.seconds:.1f} s, {resets} resets and {len(self.broken) - resets} freezes;"
            f" the page saw {seen}"
        )


@contextmanager
def long_site(folder: Path, size: int) -> Iterator[tuple[Process, int]]:
    """The site, and its port."""
    port = free_port()
    command = [sys.executable, "-m", "tests.peers.long_site", str(port), str(size)]
    with Process(command, folder / f"site-{port}.log") as site:
        site.await_port(port)
        yield site, port


def visit(
    folder: Path, site: tuple[Process, int], proxy: int, connections: PathConnections, limit: float
) -> Visit:
    """Load the page through ``proxy`` and break a connection every second until it is done."""
    server, port = site
    before = server.log.count("{")
    run = folder / f"browser-{free_port()}"
    command = [
        *(*ALONE, "chromium", *QUIET, f"--user-data-dir={run}", LOOPBACK_TOO),
        *(f"--proxy-server=socks5://{HOST}:{proxy}", "--remote-debugging-port=0"),
        f"http://{HOST}:{port}/",
    ]
    started = time.monotonic()
    with Process(command, run.with_suffix(".log")), breaking(connections) as broken:
        while server.log.count("{") == before and time.monotonic() - started < limit:
            time.sleep(0.05)
    lines = [line for line in server.log.splitlines() if line.startswith("{")]
    report = json.loads(lines[before]) if len(lines) > before else {}
    return Visit(time.monotonic() - started, report, tuple(broken))


@contextmanager
def breaking(connections: PathConnections) -> Iterator[list[str]]:
    """Reset or freeze one of the connections every second; what was done."""
    done, broken, choice = Event(), list[str](), random.Random(3)

    def work() -> None:
        while not done.wait(choice.uniform(0.7, 1.3)):
            alive = [each for each in connections() if each[1].thawed.is_set()]
            if not alive:
                continue
            # The busiest, or just any: idle ones die as well.
            way, passing = choice.choice([max(alive, key=_carried), choice.choice(alive)])
            what = choice.choice(["reset", "freeze"])
            (way.reset if what == "reset" else way.freeze)(passing)
            broken.append(what)

    thread = Thread(target=work)
    thread.start()
    try:
        yield broken
    finally:
        done.set()
        thread.join()


def _carried(each: tuple[TcpPath, PathConnection]) -> int:
    return each[1].carried
