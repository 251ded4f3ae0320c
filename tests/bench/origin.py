"""An HTTP origin that costs so little that what it serves is the only thing measured.

Run with ``python -m tests.bench.origin PORT``; it listens on 127.0.0.1.

``GET /N`` answers N zero bytes, ``GET /after/S`` answers after S seconds, ``GET /generate_204``
answers 204, ``POST`` discards the body and then answers. Bodies are sent from a memory file and
discarded inside the kernel, so no payload byte is ever copied by this process. A connection may
begin with the records of ``inner_tls``.
"""

import heapq
import os
import select
import socket
import sys
import time
from dataclasses import dataclass, field

from tests.bench.inner_tls import HANDSHAKE, RECORD, record_size, server_hello

STEP = 1 << 20  # one call moves this much at most; more would make the connections unfair
LONGEST_HEAD = 8192
BACKLOG = 1024
EVERY_CHANGE = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


@dataclass(slots=True)
class Connection:
    """One client: at any time it waits for a head, sends a body or discards one."""

    sock: socket.socket
    head: bytes = b""
    unsent: bytes = b""
    to_send: int = 0
    to_discard: int = 0
    discarding: bool = False
    last: bool = False


def reply(status: str, length: int) -> bytes:
    """Return a response head."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n".encode()


@dataclass(slots=True)
class Origin:
    """Serves every connection of one listening socket in one thread."""

    listener: socket.socket
    epoll: select.epoll = field(default_factory=select.epoll)
    connections: dict[int, Connection] = field(default_factory=dict)
    late: list[tuple[float, int, Connection]] = field(default_factory=list)
    body: int = field(default_factory=lambda: os.memfd_create("body"))
    scratch: bytearray = field(default_factory=lambda: bytearray(STEP))

    def serve(self) -> None:
        """Serve for ever."""
        os.truncate(self.body, STEP)
        self.listener.settimeout(0)
        self.epoll.register(self.listener, select.EPOLLIN)
        while True:
            for number, _ in self.epoll.poll(self.answer_late()):
                if number == self.listener.fileno():
                    self.accept()
                elif connection := self.connections.get(number):
                    self.advance(connection)

    def accept(self) -> None:
        """Take all who wait."""
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            sock.settimeout(0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections[sock.fileno()] = Connection(sock)
            self.epoll.register(sock, EVERY_CHANGE)

    def answer_late(self) -> float:
        """Send the late answers that are due; return the seconds until the next, or -1."""
        while self.late and self.late[0][0] <= time.monotonic():
            connection = heapq.heappop(self.late)[2]
            connection.unsent = reply("200 OK", 4) + b"late"
            self.advance(connection)
        return max(0.0, self.late[0][0] - time.monotonic()) if self.late else -1

    def advance(self, connection: Connection) -> None:
        """Do all that the connection lets us do now."""
        try:
            while self.send(connection) and self.discard(connection):
                if connection.last or not self.read_head(connection):
                    self.close(connection)
                    return
        except BlockingIOError:
            return
        except OSError:
            self.close(connection)

    def send(self, connection: Connection) -> bool:
        """Send the answer; True once it is out."""
        while connection.unsent:
            sent = connection.sock.send(connection.unsent)
            connection.unsent = connection.unsent[sent:]
        while connection.to_send:
            wanted = min(connection.to_send, STEP)
            connection.to_send -= os.sendfile(connection.sock.fileno(), self.body, 0, wanted)
        return True

    def discard(self, connection: Connection) -> bool:
        """Drop the request's body; True once it is gone and answered."""
        while connection.to_discard:
            wanted = min(connection.to_discard, STEP)
            dropped = connection.sock.recv_into(self.scratch, wanted, socket.MSG_TRUNC)
            if not dropped:
                raise ConnectionResetError
            connection.to_discard -= dropped
        if connection.discarding:
            connection.discarding = False
            connection.unsent = reply("200 OK", 0)
            return self.send(connection)
        return True

    def read_head(self, connection: Connection) -> bool:
        """Read a request and note its answer; False at the end of the connection."""
        while b"\r\n\r\n" not in connection.head or connection.head[0] == HANDSHAKE:
            data = connection.sock.recv(LONGEST_HEAD)
            if not data or len(connection.head) > LONGEST_HEAD:
                return False
            connection.head += data
            self.greet(connection)
        head, _, rest = connection.head.partition(b"\r\n\r\n")
        connection.head = b""
        self.note(connection, head.decode("latin-1").lower(), len(rest))
        return True

    def greet(self, connection: Connection) -> None:
        """Answer a whole record of TLS, if that is what came."""
        size = record_size(connection.head)
        if 0 < size <= len(connection.head):
            is_hello = connection.head[0] == HANDSHAKE
            connection.sock.send(server_hello() if is_hello else RECORD)
            connection.head = connection.head[size:]

    def note(self, connection: Connection, head: str, early: int) -> None:
        """Turn a request head into what is to be sent and discarded."""
        request, *fields = head.split("\r\n")
        method, path, _ = request.split(" ")
        connection.last = "connection: close" in fields
        if method == "post":
            length = next(int(f[15:]) for f in fields if f.startswith("content-length:"))
            connection.to_discard = length - early
            connection.discarding = True
        elif path == "/generate_204":
            connection.unsent = b"HTTP/1.1 204 No Content\r\n\r\n"
        elif path.startswith("/after/"):
            connection.last = False
            due = time.monotonic() + float(path.removeprefix("/after/"))
            heapq.heappush(self.late, (due, id(connection), connection))
        else:
            connection.to_send = int(path[1:]) if path[1:].isdigit() else 0
            connection.unsent = reply("200 OK", connection.to_send)

    def close(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.pop(connection.sock.fileno(), None)
        connection.sock.close()


def main() -> None:
    """Listen on the port that the command line names, and serve."""
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=BACKLOG) as listener:
        Origin(listener).serve()


if __name__ == "__main__":
    main()
