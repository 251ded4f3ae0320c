"""Datagrams over a connected UDP socket: the kernel drops those of other senders."""

from __future__ import annotations

import asyncio
import socket

from circumvent.api import Datagrams
from circumvent.errors import DialError
from circumvent.net.readiness import watch
from circumvent.net.sockets import reset_error

MAX_DATAGRAM = 4096  # what DNS servers send at most (RFC 6891 §6.2.5); longer ones are forged
_RECEIVE_BUFFER = 64 * 1024  # for a burst of forged answers in front of the real one


class UdpDatagrams(Datagrams):
    """Owns a connected, non-blocking UDP socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._watch = watch(sock.fileno())

    def send(self, data: bytes) -> None:
        try:
            self._sock.send(data)
        except BlockingIOError:
            pass  # counts as lost on the way
        except OSError as error:
            raise reset_error("write", error) from error

    async def receive(self, seconds: float) -> bytes:
        async with asyncio.timeout(seconds):
            while True:
                await self._watch.wait_readable()
                data = self._take()
                if data is not None and len(data) <= MAX_DATAGRAM:
                    return data

    def _take(self) -> bytes | None:
        try:
            return self._sock.recv(MAX_DATAGRAM + 1)
        except BlockingIOError:
            self._watch.drained()
            return None
        except OSError as error:
            raise reset_error("read", error) from error

    def close(self) -> None:
        self._watch.close()
        self._sock.close()


def connect(address: str, port: int) -> UdpDatagrams:
    """An endpoint for an IP address; raises DialError with the errno."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        raise DialError(f"no socket: {error.strerror}", stage="udp", errno=error.errno) from error
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.connect((address, port))
        return UdpDatagrams(sock)
    except OSError as error:
        sock.close()
        raise DialError(
            f"no route to the server: {error.strerror}", stage="udp", errno=error.errno
        ) from error
