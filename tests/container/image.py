"""Builds and runs the image with tools that need no daemon, in a store of its own.

A base system made from Debian's packages stands in for the base that the Dockerfile names, and a
folder of wheels for the package index. Debian 12 has Python 3.11, so the wheels must be for it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.process import PeerError

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
SUITE_PYTHON = (3, 11)
PACKAGES = "python3,python3-venv,ca-certificates"
BASE = "localhost/base"
IMAGE = "localhost/circumvent"
USER = 10001  # as in the Dockerfile
MEMORY = 50 * 1000 * 1000
BUILD_SECONDS = 300
RUN_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Podman:
    """Podman over one store, with what works inside of a container and on hybrid cgroups."""

    folder: Path

    @property
    def _store(self) -> list[str]:
        return [
            *("--root", str(self.folder / "store")),
            *("--runroot", str(self.folder / "run")),
            *("--storage-driver", "vfs"),
        ]

    def build(self, dockerfile: Path, tag: str, context: Path, *options: str) -> None:
        """Build ``tag``; what it is made from must be there already."""
        flags = ["--isolation", "chroot", "--format", "docker", "--pull-never", *options]
        place = ["--file", str(dockerfile), "--tag", tag, str(context)]
        finish(["buildah", *self._store, "build", *flags, *place], BUILD_SECONDS)

    def __call__(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a podman command; the caller looks at its exit code."""
        fixed = ["--tmpdir", str(self.folder / "tmp"), "--cgroup-manager", "cgroupfs"]
        return subprocess.run(
            ["podman", *self._store, *fixed, "--runtime", "runc", *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )

    @contextmanager
    def run(self, name: str, environment: Mapping[str, str], config: Path) -> Iterator[Container]:
        """A container without a writable root, and with MEMORY and no swap; ends with the block."""
        started = self("run", "--detach", "--name", name, *limits(environment, config), IMAGE)
        try:
            if started.returncode:
                raise PeerError(f"podman run failed:\n{started.stderr}")
            yield Container(self, name)
        finally:
            self("rm", "--force", "--time", "0", "--volumes", name)


@dataclass(frozen=True, slots=True)
class Container:
    """A started container."""

    podman: Podman
    name: str

    def is_healthy(self) -> bool:
        """Run the image's health check once."""
        return self.podman("healthcheck", "run", self.name).returncode == 0

    def inspect(self, template: str) -> str:
        """A fact, as a Go template."""
        return self.podman("inspect", "--format", template, self.name).stdout.strip()

    def read(self, path: str) -> str:
        """A file inside."""
        return self.podman("exec", self.name, "cat", path).stdout

    def stop(self) -> int:
        """Stop it as an orchestrator would; its exit code."""
        self.podman("stop", "--time", "20", self.name)
        return int(self.inspect("{{.State.ExitCode}}"))

    @property
    def log(self) -> str:
        """All that it has printed."""
        done = self.podman("logs", self.name)
        return done.stdout + done.stderr


def limits(environment: Mapping[str, str], config: Path) -> list[str]:
    """Options of ``podman run``."""
    variables = [word for key, value in environment.items() for word in ("--env", f"{key}={value}")]
    return [
        *("--network", "host", "--read-only"),
        *("--memory", str(MEMORY), "--memory-swap", str(MEMORY)),
        *("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=1024:1024"),
        *("--volume", f"{config}:/etc/circumvent:ro"),
        *variables,
    ]


@contextmanager
def built_image(folder: Path) -> Iterator[Podman]:
    """The image in a store of its own, removed at the end: it is a gigabyte."""
    podman = Podman(folder)
    try:
        build_base(podman)
        wheels = make_wheels(folder / "wheels")
        podman.build(
            ROOT / "Dockerfile",
            IMAGE,
            ROOT,
            *("--build-arg", f"PYTHON={BASE}"),
            *("--build-arg", "PIP_NO_INDEX=1", "--build-arg", "PIP_FIND_LINKS=/wheels"),
            *("--volume", f"{wheels}:/wheels:ro"),
        )
        yield podman
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build_base(podman: Podman) -> None:
    """A minimal Debian with Python, tagged BASE."""
    context = podman.folder / "base"
    context.mkdir(parents=True)
    options = ["--variant=minbase", f"--include={PACKAGES}"]
    finish(["mmdebstrap", *options, SUITE, str(context / "base.tar")], BUILD_SECONDS)
    dockerfile = context / "Dockerfile"
    dockerfile.write_text("FROM scratch\nADD base.tar /\n")
    podman.build(dockerfile, BASE, context)


def make_wheels(folder: Path) -> Path:
    """What the project needs at run time and to be built, as wheels for the base's Python."""
    if sys.version_info[:2] != SUITE_PYTHON:
        raise PeerError(f"the wheels are for the base's Python {SUITE_PYTHON}, so run this with it")
    wanted = [str(ROOT), "hatchling>=1.27,<2"]
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder)]
    finish([*pip, *wanted], BUILD_SECONDS)
    for own in folder.glob("circumvent-*.whl"):
        own.unlink()  # the Dockerfile builds it from the source
    return folder


def finish(command: Sequence[str], seconds: float) -> None:
    """Run a command to its end; raises PeerError with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    if done.returncode:
        raise PeerError(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-4000:]}")
