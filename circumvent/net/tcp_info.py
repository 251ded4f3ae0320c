"""What the kernel knows of a TCP connection: ``struct tcp_info`` of linux/tcp.h."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from typing import NamedTuple

CLOSE, CLOSE_WAIT = 7, 8  # net/tcp_states.h

# The fields that are used. Those with "last" are milliseconds since then, round-trip times are
# microseconds; what an older kernel does not know reads as zero.
_FIELDS = struct.Struct(
    "=B x B B 40x"  # tcpi_state, tcpi_retransmits, tcpi_probes
    "I 4x I I"  # tcpi_last_data_sent, _last_data_recv, _last_ack_recv
    "8x I 76x I"  # tcpi_rtt, tcpi_min_rtt
)
_MS, _US = 1e-3, 1e-6
_INT = struct.Struct("i")


class TcpInfo(NamedTuple):
    """Times in seconds. ``unanswered`` counts resends and keep-alives without an answer."""

    state: int
    unanswered: int
    since_sent: float
    since_received: float
    since_acknowledged: float
    rtt: float
    least_rtt: float


def tcp_info(sock: socket.socket) -> TcpInfo | None:
    """What the kernel knows of a connection; None where it does not tell, or after closing."""
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError):
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _FIELDS.size)
        state, again, probes, sent, received, acknowledged, rtt, least = _FIELDS.unpack(
            raw.ljust(_FIELDS.size, b"\0")
        )
        return TcpInfo(
            state,
            again + probes,
            sent * _MS,
            received * _MS,
            acknowledged * _MS,
            rtt * _US,
            least * _US,
        )
    return None


def unacknowledged(sock: socket.socket) -> int:
    """Bytes sent that the other end's kernel has not acknowledged; 0 where ours does not tell."""
    return _count(sock, "TIOCOUTQ")


def unread(sock: socket.socket) -> int:
    """Bytes received that were not read yet; 0 where the kernel does not tell."""
    return _count(sock, "FIONREAD")


def _count(sock: socket.socket, request: str) -> int:
    if sys.platform != "linux":
        return 0
    import fcntl  # noqa: PLC0415 - these two do not exist everywhere
    import termios  # noqa: PLC0415

    count = bytearray(_INT.size)
    try:
        fcntl.ioctl(sock, getattr(termios, request), count)
    except (OSError, ValueError):  # closed under us
        return 0
    return int(_INT.unpack(count)[0])


def ask_for_sign(sock: socket.socket, *, wanted: bool) -> None:
    """Let the kernel ask the other end's kernel every second (TCP keep-alive), or stop asking.

    While the kernel resends data it sends no keep-alives: resending asks, too.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a broken socket shows elsewhere
            if wanted:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, wanted)
