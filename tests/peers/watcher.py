"""Somebody on the path, who notes what clients say first and changes nothing."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

HOST = "127.0.0.1"
FIRST = 1 << 14  # bytes that are noted of each connection
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds


class Watcher:
    """``port`` leads to ``target`` on the same address; ``seen`` has the connections in order."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.seen: list[bytearray] = []
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._near: list[socket.socket] = []
        self._threads = [Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                self._threads.append(Thread(target=self._serve, args=(near,)))
                self._threads[-1].start()

    def _serve(self, near: socket.socket) -> None:
        first = bytearray()
        self.seen.append(first)
        self._near.append(near)
        with near, socket.create_connection((HOST, self.target)) as far:
            back = Thread(target=_pass_on, args=(far, near, bytearray(FIRST)))
            back.start()
            _pass_on(near, far, first)
            back.join()

    def close(self) -> None:
        """Accept nobody any more, and cut who is still there."""
        for sock in (self._listener, *self._near):
            with suppress(OSError):  # it has left
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()


def _pass_on(source: socket.socket, sink: socket.socket, first: bytearray) -> None:
    try:
        while data := source.recv(1 << 16):
            if len(first) < FIRST:
                first += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # a reset is passed on as one
        for sock in (source, sink):
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def watching(target: int) -> Iterator[Watcher]:
    """Watch what clients of that port on 127.0.0.1 say."""
    watcher = Watcher(target)
    try:
        yield watcher
    finally:
        watcher.close()
