"""Hosts of their own on one machine, with cables between them: network namespaces.

Each lasts as long as the process that holds it, and so do its cables: nothing is left behind.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.process import PeerError, Process, program

PATIENCE = 30  # seconds for one command


@dataclass(frozen=True, slots=True)
class Host:
    """``name`` is also that of the cables' ends at other hosts."""

    name: str
    holder: Process

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command as it runs on this host."""
        enter = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--"]
        return [*enter, program(command[0]), *command[1:]]

    def run(self, command: str) -> str:
        """What a short command prints; raises PeerError with what it said when it fails."""
        words = self.inside(command.split())
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode:
            raise PeerError(f"{command} on host {self.name} failed: {done.stderr}")
        return done.stdout


@contextmanager
def hosts(names: Sequence[str], folder: Path) -> Iterator[list[Host]]:
    """So many hosts, each with nothing but its loopback."""
    ours = Path("/proc/self/ns/net").readlink()
    with ExitStack() as stack:
        made = []
        for name in names:
            command = ["unshare", "--net", "sleep", "infinity"]
            holder = stack.enter_context(Process(command, folder / f"host-{name}.log"))
            theirs = Path(f"/proc/{holder.pid}/ns/net")
            holder.await_that(
                lambda at=theirs: at.readlink() != ours,  # type: ignore[misc]
                "had a network of its own (this needs root)",
            )
            made.append(Host(name, holder))
            made[-1].run("ip link set lo up")
        yield made


def cable(near: Host, far: Host, networks: Sequence[str]) -> None:
    """Join two hosts; in each network, such as ``10.0.1``, near is ``.1`` and far is ``.2``."""
    near.run(f"ip link add {far.name} type veth peer name {near.name} netns {far.holder.pid}")
    for host, other, number in ((near, far, 1), (far, near, 2)):
        for network in networks:
            host.run(f"ip address add {network}.{number}/24 dev {other.name}")
        host.run(f"ip link set {other.name} up")
