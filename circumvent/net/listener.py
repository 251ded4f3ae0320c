"""Listening sockets, and accepting: in bursts, with a limit, with a pause without descriptors."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence

from circumvent.errors import ConfigError
from circumvent.net.sockets import SocketBuffers, prepare
from circumvent.wire.address import MAX_PORT

BACKLOG = 1024  # a browser that restores its tabs must not meet a full queue
ANY_IPV6, LOOPBACK_IPV6 = "::", "::1"
NO_SUCH_ADDRESS = frozenset((errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT))  # as without IPv6
ACCEPT_BURST = 64  # clients per turn of the loop, so that those that are connected get theirs
RETRY_SECONDS = 0.5  # after which to accept again when no descriptors were left
_DEFER_SECONDS = 1  # the kernel's smallest
_OUT_OF_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

log = logging.getLogger(__name__)


class Listener:
    """Hands accepted sockets to ``accepted`` while ``has_room`` says so.

    Without room, clients wait in the kernel's queue: none is refused. Call ``resume`` when a
    client has left. Without descriptors it tries again after ``retry_seconds``.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        accepted: Callable[[socket.socket], None],
        has_room: Callable[[], bool],
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        self._accepted = accepted
        self._has_room = has_room
        self._retry_seconds = retry_seconds
        self._paused = True
        self._retry: asyncio.TimerHandle | None = None
        self._has_warned = False

    def resume(self) -> None:
        """Accept, if there is room; no effect while accepting or waiting for descriptors."""
        if self._paused and self._retry is None and self._has_room():
            self._paused = False
            for sock in self._sockets:
                self._loop.add_reader(sock, self._accept, sock)

    def close(self) -> None:
        """Accept no more; clients that still queue are refused."""
        self._pause()
        if self._retry is not None:
            self._retry.cancel()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPT_BURST):
            if not self._has_room():
                self._pause()
                return
            try:
                sock, _ = listening.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                self._pause_and_retry(error)
                return
            self._accepted(sock)

    def _pause_and_retry(self, error: OSError) -> None:
        self._pause()
        self._retry = self._loop.call_later(self._retry_seconds, self._try_again)
        if not self._has_warned:
            self._has_warned = True
            hint = " (raise `ulimit -n`)" if error.errno in _OUT_OF_RESOURCES else ""
            log.warning("accepting pauses: %s%s", error.strerror, hint)

    def _try_again(self) -> None:
        self._retry = None
        self.resume()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            for sock in self._sockets:
                self._loop.remove_reader(sock)


def listen(address: str, port: int, buffers: SocketBuffers) -> socket.socket:
    """A listening socket; ``::`` takes IPv4 too. Raises ConfigError with the errno."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _cannot_listen(address, port, error) from error
    try:
        # Clients inherit all of this: nothing but the blocking mode is left to set for each.
        prepare(sock, buffers)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address != ANY_IPV6)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _cannot_listen(address, port, error) from error
    return sock


def defer_accept(sock: socket.socket) -> None:
    """Accept a client once it has sent something; only where all clients send first."""
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)


def _cannot_listen(address: str, port: int, error: OSError) -> ConfigError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in NO_SUCH_ADDRESS and address in {ANY_IPV6, LOOPBACK_IPV6}:
        reason = f"this machine has no IPv6 ({reason})"
    return ConfigError(
        f"cannot listen on {address} port {port}: {reason}; choose another with --listen",
        stage="listen",
        errno=error.errno,
    )


def parse_listen(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``: an IP address (IPv6 in brackets) or localhost; raises ConfigError."""
    host, separator, port = text.strip().lower().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not separator or not (port.isascii() and port.isdigit()) or int(port) > MAX_PORT:
        raise ConfigError(f"cannot listen on {text!r}: write HOST:PORT", stage="listen")
    if (":" in host) != bracketed:
        raise ConfigError(f"cannot listen on {text!r}: write [IPv6]:PORT", stage="listen")
    return host.strip("[]"), int(port)
