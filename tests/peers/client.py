"""Our own client in a process, over whatever links."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from circumvent.api import CarrierStatus
from circumvent.status.snapshot import Status
from tests.peers.process import Process, free_port

PATIENCE = 30  # seconds


@dataclass(frozen=True, slots=True)
class RunningClient:
    """``port`` is that of its SOCKS and HTTP proxy."""

    port: int
    process: Process
    environment: dict[str, str]

    def status(self) -> Status:
        """The answer of ``circumvent status --json``."""
        words = [sys.executable, "-m", "circumvent", "status", "--json"]
        done = subprocess.run(
            words, env=self.environment, capture_output=True, check=True, timeout=PATIENCE
        )
        return msgspec.json.decode(done.stdout, type=Status)

    def carriers(self) -> tuple[CarrierStatus, ...]:
        """Those of all tunnels."""
        return tuple(carrier for tunnel in self.status().tunnels for carrier in tunnel.carriers)

    def await_carriers(self, count: int) -> tuple[CarrierStatus, ...]:
        """Them, once so many are up."""
        self.process.await_that(
            lambda: sum(each.state == "up" for each in self.carriers()) >= count,
            f"held {count} carriers",
        )
        return self.carriers()


@contextmanager
def running_client(
    folder: Path, links: Sequence[str], probe_url: str, *, until: str = "tunnel_up"
) -> Iterator[RunningClient]:
    """``circumvent run LINKS`` while the context lasts, once the event ``until`` came."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    environment = os.environ | {
        "XDG_CONFIG_HOME": str(folder),
        "CIRCUMVENT_STATE_DIR": str(folder),
        "CIRCUMVENT_PROBE_URL": probe_url,
        "CIRCUMVENT_ALLOW_PRIVATE": "1",  # a list may name servers of this machine
    }
    words = [sys.executable, "-m", "circumvent", "run", *links, "--json"]
    listen = ["--listen", f"127.0.0.1:{port}"]
    with Process([*words, *listen], folder / "log", env=environment) as process:
        process.await_that(lambda: until in _events(process), f"said {until}")
        yield RunningClient(port, process, environment)


def _events(process: Process) -> set[str]:
    lines = [line for line in process.log.splitlines() if line.startswith("{")]
    return {json.loads(line)["event"] for line in lines}
