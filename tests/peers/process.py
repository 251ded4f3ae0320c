"""Child processes that cannot outlive the test run."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

FREE_PORTS = (10_000, 32_000)  # net.ipv4.ip_local_port_range begins at 32768
START_TIMEOUT = 60.0  # seconds: it hangs; the slowest peer needs under 2 on an idle machine
POLL = 0.02
END_TIMEOUT = 30.0
LOG_TAIL = 4000  # characters of a peer's log that an error shows


class PeerError(Exception):
    """A peer is missing, did not start or ended early: the test fails, it is never skipped."""


def program(name: str) -> str:
    """The path of an installed program; raises PeerError when it is missing."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        raise PeerError(f"{name} is not installed; .ci/peers installs what the tests need")
    return path


class Process:
    """A child in its own process group, with its output in a file; a context manager.

    The kernel kills the child when this process dies, however it dies.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = Path(command[0]).name
        self._log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [
                    program("setpriv"),
                    "--pdeathsig",
                    "KILL",
                    "--",
                    program(command[0]),
                    *command[1:],
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                process_group=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Of the child, which leads its process group."""
        return self._child.pid

    @property
    def log(self) -> str:
        """All that it has printed so far."""
        return self._log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal when one ended it."""
        return self._child.poll()

    def wait(self, timeout: float = END_TIMEOUT) -> int:
        """The exit code; raises PeerError when it still runs after ``timeout`` seconds."""
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise self.failure(f"still runs after {timeout} s") from error

    def kill(self) -> None:
        """End the whole group at once; harmless when it has ended."""
        self.send(signal.SIGKILL)
        self._child.wait(END_TIMEOUT)

    def freeze(self) -> None:
        """Stop it: sockets stay open and nobody answers."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after ``freeze``."""
        self.send(signal.SIGCONT)

    def send(self, signal_number: int) -> None:
        """Send a signal to the group, if its leader was not waited for yet."""
        if self._child.returncode is None:
            os.killpg(self._child.pid, signal_number)

    def await_port(self, port: int, host: str = "127.0.0.1") -> None:
        """Return when it accepts connections; raises PeerError when it ends or takes too long."""
        self.await_that(lambda: accepts(host, port), f"accepts connections on port {port}")

    def await_that(
        self, condition: Callable[[], bool], meaning: str, timeout: float = START_TIMEOUT
    ) -> None:
        """Poll until ``condition`` holds; raises PeerError when it ends or takes too long."""
        deadline = time.monotonic() + timeout
        while not condition():
            if self.exit_code is not None:
                raise self.failure(f"ended with {self.exit_code} before it {meaning}")
            if time.monotonic() > deadline:
                raise self.failure(f"took more than {timeout} s until it {meaning}")
            time.sleep(POLL)

    def failure(self, what: str) -> PeerError:
        """An error that shows the end of the log."""
        return PeerError(f"{self.name} {what}:\n{self.log[-LOG_TAIL:]}")


def accepts(host: str, port: int) -> bool:
    """Whether somebody accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def free_port() -> int:
    """A TCP port that was free a moment ago on 127.0.0.1 and on ::1.

    It is below those that the kernel gives to outgoing connections: one of these would have taken
    it now and then before its server could.
    """
    while True:
        port = random.randrange(*FREE_PORTS)
        with (
            socket.socket(socket.AF_INET) as four,
            socket.socket(socket.AF_INET6) as six,
        ):
            try:
                four.bind(("127.0.0.1", port))
                six.bind(("::1", port))
            except OSError:
                continue
            return port


def with_file_over(path: str, replacement: Path, command: Sequence[str]) -> list[str]:
    """The command in a mount namespace of its own where ``replacement`` lies over ``path``."""
    return in_namespace("--mount", f"mount --bind '{replacement}' '{path}'", command)


def in_namespace(kind: str, preparation: str, command: Sequence[str]) -> list[str]:
    """The command in a namespace of its own that a shell has prepared.

    Entering the namespace can clear the death signal, so it is set again inside.
    """
    script = f'{preparation} && exec setpriv --pdeathsig KILL -- "$@"'
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    place = ["--propagation", "private"] if kind == "--mount" else []
    return ["unshare", *user, kind, *place, "--", "sh", "-c", script, "sh", *command]
