"""What the front door asks of the kernel: descriptors, and whether a client is still there."""

from __future__ import annotations

import contextlib
import enum
import ipaddress
import socket
import struct
import sys
from typing import Any

from circumvent.net.tcp_info import CLOSE, CLOSE_WAIT, tcp_info

_DEFER_SECONDS = 1  # the kernel's smallest
_DESCRIPTORS = 2  # of a client: its own socket, and that to a server
_SPARE_DESCRIPTORS = 48  # for probes, races, the state file: running out of them harms everybody

# linux/sock_diag.h, linux/inet_diag.h: a question about one socket, and its answer.
_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_ASK = struct.Struct("=IHHII BB2xI 2s2s16s16sI8s")
_BY_FAMILY, _REQUEST = 20, 1  # SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_ALL_STATES = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8
_KIND, _INODE = struct.Struct("=4xH"), struct.Struct("=16x68xI")  # nlmsg_type, idiag_inode
_MAX_ANSWER = 1024

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Peer(enum.Enum):
    """Where the client at the other end of a connection is."""

    HERE = enum.auto()  # or nothing says otherwise
    LEFT = enum.auto()  # closed its socket, and will hear nothing; what it said before is valid
    BROKE = enum.auto()  # reset the connection
    UNSEEN = enum.auto()  # says nothing more, and its socket is not on this machine


def raise_descriptor_limit() -> int:
    """Let the process open as many sockets as it may, and say how many that are."""
    if sys.platform == "win32":
        return sys.maxsize
    import resource  # noqa: PLC0415 - does not exist on Windows

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # some systems refuse their own maximum
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def most_clients() -> int:
    """For how many clients there are descriptors."""
    return max((raise_descriptor_limit() - _SPARE_DESCRIPTORS) // _DESCRIPTORS, 1)


def defer_accept(sock: socket.socket) -> None:
    """Clients of a listening socket speak first: wake up when there is what to read."""
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)


def idle_seconds(sock: socket.socket) -> float:
    """How long no data went either way; 0 where the kernel does not tell.

    Asking the kernel now and then is what makes the idle limit free for the data path.
    """
    info = tcp_info(sock)
    return min(info.since_sent, info.since_received) if info is not None else 0.0


def unread_bytes(sock: socket.socket) -> int:
    """How much of what the client said still waits in the kernel."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - does not exist on Windows
        import termios  # noqa: PLC0415

        with contextlib.suppress(OSError):
            count = fcntl.ioctl(sock, termios.FIONREAD, bytes(4))
            return int.from_bytes(count, sys.byteorder)
    return 0


def look_at_peer(sock: socket.socket) -> Peer:
    """Whether the client is still there.

    On the wire, one that closed its socket and one that only will say nothing more look the same.
    But clients are on this machine: there, a socket that was closed belongs to nobody.
    """
    info = tcp_info(sock)
    if info is not None:
        with contextlib.suppress(OSError):
            return _look_at_peer(sock, info.state)
    return Peer.HERE


def _look_at_peer(sock: socket.socket, state: int) -> Peer:
    if state == CLOSE:  # after a reset, or when both have said all
        return Peer.BROKE if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else Peer.LEFT
    ours, theirs = sock.getsockname(), sock.getpeername()
    owner = _owner(theirs, ours)
    if owner is not None:
        return Peer.HERE if owner else Peer.LEFT
    if state != CLOSE_WAIT:
        return Peer.HERE
    # Not found: gone, if it would be here and the kernel knows how to find ours.
    is_local = _address(theirs) == _address(ours) or _address(theirs).is_loopback
    return Peer.LEFT if is_local and _owner(ours, theirs) else Peer.UNSEEN


def _owner(end: tuple[Any, ...], other: tuple[Any, ...]) -> int | None:
    """The inode of the TCP socket between ``end`` and ``other``; 0 if nobody has it open.

    None when there is no such socket, or the kernel cannot look for it.
    """
    source, target = _address(end), _address(other)
    ports = end[1].to_bytes(2), other[1].to_bytes(2)
    scope = end[3] if end[2:] else 0
    question = _ASK.pack(
        *(_ASK.size, _BY_FAMILY, _REQUEST, 0, 0),
        *(_FAMILY[source.version], socket.IPPROTO_TCP, _ALL_STATES),
        *(*ports, source.packed, target.packed, scope, _NO_COOKIE),
    )
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as netlink:
            netlink.setblocking(False)
            netlink.send(question)
            answer = netlink.recv(_MAX_ANSWER)
    except OSError:
        return None
    is_found = _KIND.unpack_from(answer)[0] == _BY_FAMILY
    return int(_INODE.unpack_from(answer)[0]) if is_found else None


def _address(end: tuple[Any, ...]) -> Address:
    address = ipaddress.ip_address(end[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address  # a client of IPv4 at a socket of IPv6 has a socket of IPv4
