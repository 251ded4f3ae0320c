"""What the front door asks of the kernel: descriptors, and how long a client was idle."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys

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


def speak_first(sock: socket.socket) -> None:
    """Clients of a listening socket speak first: wake up when there is what to read."""
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)


def idle_seconds(sock: socket.socket) -> float:
    """How long no data went either way; 0 where the kernel does not tell.

    Asking the kernel now and then is what makes the idle limit free for the data path.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
            return float(min(_LAST_SENT.unpack_from(info))) / _MILLISECONDS
    return 0.0
