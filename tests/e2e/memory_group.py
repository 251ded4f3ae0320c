"""A memory cgroup without swap, of version 1 or 2, made and removed by the test."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.contenders import Contender
from tests.peers.process import PeerError
from tests.peers.services import Endpoint

MOUNT = Path("/sys/fs/cgroup")
EMPTY_WITHIN = 5.0  # seconds until the kernel has forgotten killed processes


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """What the kernel counted for a group, in bytes and times.

    ``refusals`` is how often the limit was met and something had to be reclaimed first;
    ``sockets`` is kernel memory of sockets, its maximum in version 1, the present in version 2.
    """

    peak: int
    refusals: int
    kills: int
    sockets: int

    def __str__(self) -> str:
        return (
            f"peak {self.peak / 1e6:.1f} MB, limit met {self.refusals} times, {self.kills} kills,"
            f" {self.sockets / 1e6:.2f} MB in sockets"
        )


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A cgroup with a limit."""

    path: Path
    version: int

    def __contains__(self, pid: int) -> bool:
        return str(pid) in self.path.joinpath("cgroup.procs").read_text().split()

    def hold(self, contender: Contender) -> Contender:
        """The same client, started inside the group."""
        join = f'echo $$ > "{self.path}/cgroup.procs" && exec "$@"'

        def command(
            endpoints: Sequence[Endpoint], port: int, home: Path, probe_url: str
        ) -> list[str]:
            started = contender.command(endpoints, port, home, probe_url)
            return ["sh", "-c", join, "sh", *started]

        return Contender(contender.name, command)

    def facts(self) -> MemoryFacts:
        """What the kernel counted so far."""
        if self.version == 1:
            return MemoryFacts(
                peak=self._number("memory.max_usage_in_bytes"),
                refusals=self._number("memory.failcnt"),
                kills=self._named("memory.oom_control", "oom_kill"),
                sockets=self._number("memory.kmem.tcp.max_usage_in_bytes"),
            )
        return MemoryFacts(
            peak=self._number("memory.peak"),
            refusals=self._named("memory.events", "max"),
            kills=self._named("memory.events", "oom_kill"),
            sockets=self._named("memory.stat", "sock"),
        )

    def _number(self, file: str) -> int:
        return int(self.path.joinpath(file).read_text())

    def _named(self, file: str, name: str) -> int:
        words = self.path.joinpath(file).read_text().split()
        return int(words[words.index(name) + 1])


@contextmanager
def memory_group(limit: int) -> Iterator[MemoryGroup]:
    """A group that may use ``limit`` bytes; raises PeerError where none can be made."""
    version = 1 if MOUNT.joinpath("memory").is_dir() else 2
    path = (MOUNT / "memory" if version == 1 else MOUNT) / f"circumvent-test-{os.getpid()}"
    try:
        path.mkdir()
        bound(path, version, limit)
    except OSError as error:
        raise PeerError(f"this proof must be allowed to make memory cgroups: {error}") from error
    try:
        yield MemoryGroup(path, version)
    finally:
        remove(path)


def bound(path: Path, version: int, limit: int) -> None:
    """Limit memory and forbid swap."""
    if version == 1:
        path.joinpath("memory.limit_in_bytes").write_text(str(limit))
        path.joinpath("memory.swappiness").write_text("0")
        # Sockets are counted only once they have a limit of their own: one that is never met.
        path.joinpath("memory.kmem.tcp.limit_in_bytes").write_text(str(1 << 40))
    else:
        MOUNT.joinpath("cgroup.subtree_control").write_text("+memory")
        path.joinpath("memory.max").write_text(str(limit))
        path.joinpath("memory.swap.max").write_text("0")


def remove(path: Path) -> None:
    """Remove a group whose processes have ended."""
    deadline = time.monotonic() + EMPTY_WITHIN
    while True:
        try:
            path.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
