"""Asks a running client for its status."""

import subprocess
import sys

import msgspec

from circumvent.status.snapshot import Status
from tests.bench.contenders import Running, own_files

PATIENCE = 30  # seconds


def status(running: Running) -> Status:
    """The answer of ``circumvent status --json``."""
    command = [sys.executable, "-m", "circumvent", "status", "--json"]
    answer = subprocess.run(
        command, env=own_files(running.home), capture_output=True, check=True, timeout=PATIENCE
    )
    return msgspec.json.decode(answer.stdout, type=Status)


def await_tunnels(running: Running, count: int) -> Status:
    """Wait until so many tunnels are up; returns the status."""
    running.process.await_that(
        lambda: sum(tunnel.state == "up" for tunnel in status(running).tunnels) >= count,
        f"held {count} tunnels",
    )
    return status(running)
