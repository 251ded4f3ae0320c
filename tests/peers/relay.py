"""A relay in a process of its own, made by the command line as an operator would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.process import PeerError, Process, free_port

START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class RunningRelay:
    """``link`` is the first user's invite."""

    directory: Path
    port: int
    link: str
    process: Process

    def status(self) -> dict[str, object]:
        """What ``relay status --json`` prints."""
        answer = json.loads(command("relay", "status", str(self.directory), "--json"))
        assert isinstance(answer, dict)
        return answer


def command(*words: str) -> str:
    """The output of ``circumvent WORDS``; raises PeerError when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "circumvent", *words],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    if done.returncode:
        raise PeerError(f"circumvent {words[0]} failed: {done.stderr}")
    return done.stdout


def make_relay(directory: Path, *options: str) -> int:
    """``relay init`` for a lab on loopback; the port that it will have."""
    port = free_port()
    listen = f"127.0.0.1:{port}"
    command("relay", "init", str(directory), "--listen", listen, "--allow-private", *options)
    return port


def configure(directory: Path, *lines: str, before: str = "\n[egress]") -> None:
    """Put lines into ``relay.toml``, as an operator would with an editor."""
    file = directory / "relay.toml"
    head, mark, rest = file.read_text().partition(before)
    file.write_text("\n".join([head, *lines, ""]) + mark + rest)


@contextmanager
def running_relay(directory: Path, port: int) -> Iterator[RunningRelay]:
    """``relay run`` while the context lasts."""
    link = command("relay", "invite", str(directory)).strip()
    words = [sys.executable, "-m", "circumvent", "relay", "run", str(directory)]
    with Process(words, directory.with_suffix(".log")) as process:
        process.await_port(port)
        yield RunningRelay(directory, port, link, process)
