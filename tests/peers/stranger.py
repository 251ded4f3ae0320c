"""A stranger who uses a web server's connections to what is behind it, so as to spoil them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PAUSE = 0.05  # seconds between two requests: the connection that was spoiled is idle meanwhile
LONGEST = 0.5  # seconds to wait for an answer
_HEAD = b"%b HTTP/1.1\r\nHost: relay.example\r\n%b\r\n"
SPOILERS = (
    _HEAD % (b"GET /", b"Connection: upgrade\r\nUpgrade: foo\r\n"),
    _HEAD % (b"GET /", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    _HEAD % (b"POST /", b"Transfer-Encoding: chunked\r\n") + b"3\r\nabc\r\n0\r\n\r\n",
    _HEAD % (b"POST /", b"Content-Length: 5\r\n") + b"GET /",
    _HEAD % (b"POST /", b"Content-Length: 17\r\n") + b"GET / HTTP/1.1\r\nA",
    _HEAD % (b"POST /", b"Content-Length: 3\r\nExpect: 100-continue\r\n") + b"abc",
    _HEAD % (b"GET /", b"A: " + b"a" * 7000 + b"\r\n"),
    _HEAD % (b"BREW /", b""),
    _HEAD % (b"CONNECT relay.example:443", b""),
    b"GET / HTTP/1.0\r\nHost: relay.example\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\nHost: relay.example\n\n",
)


class Stranger:
    """``answers`` counts what came back: one who is never answered proves nothing."""

    def __init__(self, port: int, name: str) -> None:
        self.answers = 0
        self._port = port
        self._name = name
        self._over = threading.Event()

    def work(self) -> None:
        """Until ``leave``: ask for an upgrade that nobody grants, again and again."""
        while not self._over.wait(PAUSE):
            with contextlib.suppress(OSError):
                self._ask(SPOILERS[0])

    def _ask(self, spoiler: bytes) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self._port), timeout=LONGEST) as raw,
            context.wrap_socket(raw, server_hostname=self._name) as connection,
        ):
            connection.sendall(spoiler)
            self.answers += bool(connection.recv(4096))

    def leave(self) -> None:
        """No more requests."""
        self._over.set()


@contextmanager
def stranger_at_work(port: int, name: str) -> Iterator[Stranger]:
    """While the context lasts."""
    stranger = Stranger(port, name)
    working = threading.Thread(target=stranger.work)
    working.start()
    try:
        yield stranger
    finally:
        stranger.leave()
        working.join()
