"""A SOCKS5 load generator that spends as little as Python can.

A task is a generator that yields a socket when it cannot go on; ``Load`` runs many of them in
one thread over one edge-triggered epoll. Bodies are discarded inside the kernel and sent from a
memory file, so the generator does not compete with what it measures.
"""

import os
import select
import socket
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field

from tests.bench.inner_tls import RECORD, client_hello
from tests.bench.origin import EVERY_CHANGE, STEP

LONGEST_HEAD = 8192
PATIENCE = 30.0  # seconds; a load in which nothing at all happens for so long has failed
NO_PASSWORD = b"\x05\x01\x00"
CONNECT_IPV4 = b"\x05\x01\x00\x01"
HELLO = client_hello()
REPLY_LENGTH = {1: 10, 4: 22}  # RFC 1928 section 6, by address type

Task = Generator[socket.socket, None, None]


class LoadError(Exception):
    """The client or the server did not do what the measurement needs."""


@dataclass(frozen=True, slots=True)
class Through:
    """The way of a load: the client's SOCKS port, and the origin's port behind it.

    ``is_tls``: whether it looks like TLS 1.3 to the client.
    """

    proxy: int
    origin: int
    is_tls: bool = False


def flush(sock: socket.socket, data: bytes) -> Task:
    """Send all of ``data``."""
    while data:
        try:
            data = data[sock.send(data) :]
        except BlockingIOError:
            yield sock


def receive(sock: socket.socket) -> Generator[socket.socket, None, bytes]:
    """Return what is there, once something is; raises LoadError at the end."""
    while True:
        try:
            data = sock.recv(LONGEST_HEAD)
        except BlockingIOError:
            yield sock
            continue
        if not data:
            raise LoadError("the connection ended early")
        return data


@dataclass(slots=True)
class Load:
    """Runs tasks; what they raise ends the load."""

    through: Through
    epoll: select.epoll = field(default_factory=select.epoll)
    waiting: dict[int, Task] = field(default_factory=dict)
    body: int = field(default_factory=lambda: os.memfd_create("body"))
    scratch: bytearray = field(default_factory=lambda: bytearray(STEP))

    def __post_init__(self) -> None:
        """Give the memory file its size."""
        os.truncate(self.body, STEP)

    def run(self, tasks: Iterable[Task], at_once: int) -> None:
        """Run all tasks, ``at_once`` at a time; raises LoadError, OSError."""
        left = iter(tasks)
        for _ in range(at_once):
            self.start_next(left)
        while self.waiting:
            events = self.epoll.poll(PATIENCE)
            if not events:
                raise LoadError(f"nothing happened for {PATIENCE} s")
            for number, _ in events:
                task = self.waiting.pop(number, None)
                if task is not None and not self.advance(task):
                    self.start_next(left)

    def start_next(self, left: Iterator[Task]) -> None:
        """Start the next task that does not end at once."""
        for task in left:
            if self.advance(task):
                return

    def advance(self, task: Task) -> bool:
        """Let a task go on; False when it has ended."""
        sock = next(task, None)
        if sock is None:
            return False
        self.waiting[sock.fileno()] = task
        return True

    def open(self) -> Generator[socket.socket, None, socket.socket]:
        """Open a stream to the origin through the client."""
        sock = socket.socket()
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex(("127.0.0.1", self.through.proxy))
        self.epoll.register(sock, EVERY_CHANGE)
        yield sock
        yield from flush(sock, NO_PASSWORD)
        yield from receive(sock)
        address = socket.inet_aton("127.0.0.1") + self.through.origin.to_bytes(2)
        yield from flush(sock, CONNECT_IPV4 + address)
        reply = b""
        while len(reply) < REPLY_LENGTH[1] or len(reply) < REPLY_LENGTH[reply[3]]:
            reply += yield from receive(sock)
        if reply[1]:
            raise LoadError(f"the client refused with code {reply[1]}")
        if self.through.is_tls:
            for record in (HELLO, RECORD):
                yield from flush(sock, record)
                yield from receive(sock)
        return sock

    def download(self, sock: socket.socket, size: int, head: bytes = b"") -> Task:
        """Fetch ``size`` bytes over an open stream."""
        yield from flush(sock, b"GET /%d HTTP/1.1\r\nHost: a\r\n%b\r\n" % (size, head))
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += yield from receive(sock)
        left = size - len(answer.partition(b"\r\n\r\n")[2])
        while left:
            try:
                got = sock.recv_into(self.scratch, min(left, STEP), socket.MSG_TRUNC)
            except BlockingIOError:
                yield sock
                continue
            if not got:
                raise LoadError(f"a stream was lost with {left} bytes to come")
            left -= got

    def upload(self, sock: socket.socket, size: int) -> Task:
        """Send ``size`` bytes over an open stream and await the answer."""
        yield from flush(sock, b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            try:
                left -= os.sendfile(sock.fileno(), self.body, 0, min(left, STEP))
            except BlockingIOError:
                yield sock
        yield from receive(sock)

    def fetch(self, size: int) -> Task:
        """Open a stream, fetch ``size`` bytes and close it."""
        sock = yield from self.open()
        with sock:
            yield from self.download(sock, size, b"Connection: close\r\n")

    def send(self, size: int) -> Task:
        """Open a stream, send ``size`` bytes and close it."""
        sock = yield from self.open()
        with sock:
            yield from self.upload(sock, size)

    def both_ways(self, size: int, kept: list[socket.socket]) -> Task:
        """Open a stream, move ``size`` bytes each way and keep it open."""
        sock = yield from self.open()
        kept.append(sock)
        yield from self.download(sock, size)
        yield from self.upload(sock, size)

    def stall(self, size: int, kept: list[socket.socket]) -> Task:
        """Open a stream, ask for ``size`` bytes, never read one, and keep it open."""
        sock = yield from self.open()
        kept.append(sock)
        yield from flush(sock, b"GET /%d HTTP/1.1\r\n\r\n" % size)
