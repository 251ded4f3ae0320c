"""What a running client says about itself."""

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
    """The status once so many tunnels are up."""
    running.process.await_that(
        lambda: sum(tunnel.state == "up" for tunnel in status(running).tunnels) >= count,
        f"held {count} tunnels",
    )
    return status(running)
