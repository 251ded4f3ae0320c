"""Opens new connections through a client all the time, and notes how each one ended."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.bench.load import CONNECT_IPV4, NO_PASSWORD, REPLY_LENGTH, Through

EVERY = 0.05  # seconds between two new connections
PATIENCE = 5.0  # seconds that a user waits for a small answer
AT_ONCE = 200  # more than are opened within the patience
ANSWER = 64


@dataclass(frozen=True, slots=True)
class Attempt:
    """One connection; times are monotonic seconds."""

    began: float
    ended: float
    answered: bool


@dataclass(frozen=True, slots=True)
class Outage:
    """What a fault did to the connections that began after it."""

    next_success: float  # seconds from the fault until an answer came
    last_failure: float  # seconds from the fault until the last failing connection began
    failures: int
    attempts: int

    def __str__(self) -> str:
        return (
            f"next success after {self.next_success:.2f} s, last failing attempt began after"
            f" {self.last_failure:.2f} s, {self.failures} of {self.attempts} failed"
        )


def get(through: Through, path: str, patience: float) -> bytes:
    """Send a request over a new connection and return the answer; raises OSError."""
    with socket.create_connection(("127.0.0.1", through.proxy), timeout=patience) as sock:
        sock.sendall(NO_PASSWORD)
        sock.recv(2, socket.MSG_WAITALL)
        address = socket.inet_aton("127.0.0.1") + through.origin.to_bytes(2)
        sock.sendall(CONNECT_IPV4 + address)
        reply = sock.recv(REPLY_LENGTH[1], socket.MSG_WAITALL)
        if len(reply) < REPLY_LENGTH[1] or reply[1]:
            raise ConnectionRefusedError
        sock.sendall(f"GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        return sock.recv(4096)


@dataclass(slots=True)
class NewConnections:
    """Opens a connection every ``EVERY`` seconds until the context ends, and waits for none."""

    through: Through
    attempts: list[Attempt] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(AT_ONCE))

    def __enter__(self) -> Self:
        self._pool.submit(self._open_all)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._pool.shutdown()

    def _open_all(self) -> None:
        while not self._stop.wait(EVERY):
            self._pool.submit(self._attempt)

    def _attempt(self) -> None:
        began = time.monotonic()
        self.begun.append(began)
        try:
            answered = get(self.through, f"/{ANSWER}", PATIENCE).startswith(b"HTTP/1.1 200")
        except OSError:
            answered = False
        self.attempts.append(Attempt(began, time.monotonic(), answered))

    def outage(self, fault: float, until: float) -> Outage:
        """What happened to the connections that began between ``fault`` and ``until``.

        Waits until all of them have ended.
        """
        time.sleep(max(0.0, until - time.monotonic()))
        while self._open_before(until):
            time.sleep(EVERY)
        attempts = [attempt for attempt in self.attempts if fault <= attempt.began < until]
        answered = [attempt.ended - fault for attempt in attempts if attempt.answered]
        failed = [attempt.began - fault for attempt in attempts if not attempt.answered]
        return Outage(
            next_success=min(answered, default=float("inf")),
            last_failure=max(failed, default=0.0),
            failures=len(failed),
            attempts=len(attempts),
        )

    def _open_before(self, until: float) -> int:
        ended = sum(attempt.began < until for attempt in self.attempts)
        return sum(began < until for began in self.begun) - ended
