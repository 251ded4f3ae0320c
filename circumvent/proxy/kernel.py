"""What the front door asks of the kernel: listening sockets, and how long a client was idle."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys

from circumvent.errors import ConfigError
from circumvent.net.sockets import SocketBuffers, prepare

BACKLOG = 1024  # a browser that restores its tabs must not meet a full queue
ANY_IPV6 = "::"
_DEFER_SECONDS = 1  # the kernel's smallest

# linux/tcp.h, struct tcp_info: 8 bytes, then 32-bit words, times in milliseconds.
_TCP_INFO_SIZE = 104
_LAST_SENT = struct.Struct("=44xI4xI")  # tcpi_last_data_sent, tcpi_last_data_recv
_MILLISECONDS = 1000


def raise_descriptor_limit() -> None:
    """Let the process open as many sockets as it may: each client needs two."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - does not exist on Windows

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):  # some systems refuse their own maximum
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def listen(address: str, port: int, buffers: SocketBuffers) -> socket.socket:
    """A listening socket; ``::`` takes IPv4 too. Raises ConfigError with the errno."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Clients inherit all of this: nothing but the blocking mode is left to set for each.
        prepare(sock, buffers)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address != ANY_IPV6)
        if sys.platform == "linux":  # clients speak first: wake up when there is what to read
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _cannot_listen(address, port, error) from error
    return sock


def idle_seconds(sock: socket.socket) -> float:
    """How long no data went either way; 0 where the kernel does not tell.

    Asking the kernel now and then is what makes the idle limit free for the data path.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
            return float(min(_LAST_SENT.unpack_from(info))) / _MILLISECONDS
    return 0.0


def _cannot_listen(address: str, port: int, error: OSError) -> ConfigError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return ConfigError(
        f"cannot listen on {address} port {port}: {reason}; choose another with --listen",
        stage="listen",
        errno=error.errno,
    )
