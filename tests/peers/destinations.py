"""Destinations on 127.0.0.1 and ::1, in a process of their own: an HTTP site and an echo.

``GET /bytes/N``         N bytes of ``pattern``
``POST /sum``            the SHA-256 of the body, in hexadecimal
``GET /delay/SECONDS``   answers late
``GET /generate_204``    what captive-portal checks ask for
``GET /page/N``          a page that loads N resources and counts them in its title
``GET /last-word/ID``     says its last word at once, and listens on to the end
``GET /heard/ID``        the SHA-256 of what it heard after that

The echo sends everything back; when it sees the end of the input it sends the SHA-256 of all
that it got and closes: only half-closed connections ever see it.
"""

import hashlib
import random
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from tests.peers.process import POLL, Process, free_port

ROOT = Path(__file__).parents[2]
PERIOD = 1_048_583  # a prime: no record size divides it, so a lost or moved record shows
DIGEST_SIZE = hashlib.sha256().digest_size
CHUNK = 1 << 18
STACK = 1 << 18  # bytes per thread; the default of 8 MiB is too much for thousands
MAX_LINE = 8192
HEARING_TIMEOUT = 5.0  # seconds that /heard waits for the end of what /last-word listens to
HEAD_END = (b"\r\n", b"\n", b"")

_heard: dict[str, str] = {}
_BLOCK = memoryview(random.Random(1).randbytes(PERIOD))


def pattern(size: int) -> Iterator[memoryview]:
    """The ``size`` bytes that everybody knows, in pieces."""
    while size > 0:
        piece = _BLOCK[: min(size, PERIOD)]
        size -= len(piece)
        yield piece


def pattern_digest(size: int) -> str:
    """The SHA-256 of ``pattern(size)``, in hexadecimal."""
    digest = hashlib.sha256()
    for piece in pattern(size):
        digest.update(piece)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Destinations:
    """The running destinations; both ports on 127.0.0.1 and on ::1."""

    http_port: int
    echo_port: int
    process: Process

    @property
    def probe_url(self) -> str:
        """A URL that answers 204 without a body."""
        return f"http://127.0.0.1:{self.http_port}/generate_204"


@contextmanager
def serve_destinations(folder: Path) -> Iterator[Destinations]:
    """Run them in a process of their own; ``folder`` takes the log."""
    http_port, echo_port = free_port(), free_port()
    command = [sys.executable, "-m", "tests.peers.destinations", str(http_port), str(echo_port)]
    with Process(command, folder / "destinations.log", cwd=ROOT) as process:
        for port in (http_port, echo_port):
            for host in ("127.0.0.1", "::1"):
                process.await_port(port, host)
        yield Destinations(http_port, echo_port, process)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is no news; anything else is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        connection: socket.socket = self.request
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(CHUNK))
        while count := connection.recv_into(buffer):
            digest.update(buffer[:count])
            connection.sendall(buffer[:count])
        connection.sendall(digest.digest())


class _Site(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        while line := self.rfile.readline(MAX_LINE):
            method, target, _ = line.decode("ascii").split()
            headers = self._headers()
            _, name, *rest = target.split("?")[0].split("/")
            route = ROUTES.get((method, name), _Site.missing)
            route(self, rest[0] if rest else "", headers)
            if headers.get("connection") == "close":
                return

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while (line := self.rfile.readline(MAX_LINE)) not in HEAD_END:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip().lower()
        return headers

    def _answer(
        self,
        body: bytes = b"",
        *,
        status: HTTPStatus = HTTPStatus.OK,
        kind: str = "text/plain",
        size: int | None = None,
    ) -> None:
        length = len(body) if size is None else size
        head = [f"HTTP/1.1 {status.value} {status.phrase}", f"Content-Type: {kind}"]
        if status is not HTTPStatus.NO_CONTENT:
            head.append(f"Content-Length: {length}")
        self.connection.sendall("\r\n".join([*head, "", ""]).encode() + body)

    def send_bytes(self, size: str, _: Mapping[str, str]) -> None:
        self._answer(kind="application/octet-stream", size=int(size))
        for piece in pattern(int(size)):
            self.connection.sendall(piece)

    def sum_body(self, _: str, headers: Mapping[str, str]) -> None:
        left = int(headers["content-length"])
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(CHUNK))
        while left:
            count = self.rfile.readinto1(buffer[: min(left, CHUNK)])
            if not count:
                return
            digest.update(buffer[:count])
            left -= count
        self._answer(digest.hexdigest().encode())

    def delay(self, seconds: str, _: Mapping[str, str]) -> None:
        time.sleep(float(seconds))
        self._answer(b"late\n")

    def no_content(self, _: str, __: Mapping[str, str]) -> None:
        self._answer(status=HTTPStatus.NO_CONTENT)

    def last_word(self, conversation: str, _: Mapping[str, str]) -> None:
        self._answer()
        self.connection.shutdown(socket.SHUT_WR)
        digest = hashlib.sha256()
        while piece := self.rfile.read1(CHUNK):
            digest.update(piece)
        _heard[conversation] = digest.hexdigest()

    def heard(self, conversation: str, _: Mapping[str, str]) -> None:
        deadline = time.monotonic() + HEARING_TIMEOUT
        while conversation not in _heard and time.monotonic() < deadline:
            time.sleep(POLL)
        self._answer(_heard.get(conversation, "nothing").encode())

    def page(self, count: str, _: Mapping[str, str]) -> None:
        self._answer(_page(int(count)).encode(), kind="text/html")

    def script(self, number: str, _: Mapping[str, str]) -> None:
        self._answer(f"seen({number})".encode(), kind="text/javascript")

    def image(self, number: str, _: Mapping[str, str]) -> None:
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><!--{number}--></svg>'
        self._answer(svg.encode(), kind="image/svg+xml")

    def missing(self, _: str, __: Mapping[str, str]) -> None:
        self._answer(status=HTTPStatus.NOT_FOUND)


Route = Callable[[_Site, str, Mapping[str, str]], None]
ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "bytes"): _Site.send_bytes,
    ("POST", "sum"): _Site.sum_body,
    ("GET", "delay"): _Site.delay,
    ("GET", "generate_204"): _Site.no_content,
    ("GET", "page"): _Site.page,
    ("GET", "last-word"): _Site.last_word,
    ("GET", "heard"): _Site.heard,
    ("GET", "script"): _Site.script,
    ("GET", "image"): _Site.image,
}


def _page(count: int) -> str:
    """Half scripts, half images, each a request of its own and each counted when it worked."""
    resources = [
        f'<img src="/image/{number}" onload="seen({number})">'
        if number % 2
        else f'<script src="/script/{number}"></script>'
        for number in range(count)
    ]
    counter = (
        "<script>const all = new Set();"
        "function seen(number) { all.add(number); document.title = `seen ${all.size}` }</script>"
    )
    return f"<!doctype html><title>none</title>{counter}{''.join(resources)}"


def main(http_port: int, echo_port: int) -> None:
    """Serve until killed."""
    threading.stack_size(STACK)
    threads = [
        threading.Thread(target=kind((host, port), handler).serve_forever)
        for port, handler in ((http_port, _Site), (echo_port, _Echo))
        for kind, host in ((_Server, "127.0.0.1"), (_Server6, "::1"))
    ]
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
