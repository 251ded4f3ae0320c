"""Asks the kernel of Linux whether the client at the other end of a connection is still there."""

from __future__ import annotations

import contextlib
import enum
import ipaddress
import socket
import struct
from typing import Any

from circumvent.net.tcp_info import CLOSE, CLOSE_WAIT, tcp_info

# linux/sock_diag.h, linux/inet_diag.h: a question about one socket, and its answer.
_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_REQUEST = struct.Struct("=IHHII BB2xI 2s2s16s16sI8s")
_BY_FAMILY, _IS_REQUEST = 20, 1  # SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_ALL_STATES = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8
_TYPE, _INODE = struct.Struct("=4xH"), struct.Struct("=16x68xI")  # nlmsg_type, idiag_inode
_MAX_ANSWER = 1024

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Peer(enum.Enum):
    """Where the client at the other end of a connection is."""

    PRESENT = enum.auto()  # also when there is no sign that it left
    LEFT = enum.auto()  # closed its socket and receives nothing; what it sent before is valid
    RESET = enum.auto()  # broke the connection
    UNKNOWN = enum.auto()  # sends no more, and its socket is not on this machine


def find_peer(sock: socket.socket) -> Peer:
    """Whether the client is still there.

    On the wire, a client that closed its socket and one that only sends no more look the same. But
    clients are on this machine: there, the kernel says whether any process has the socket open.
    """
    info = tcp_info(sock)
    if info is not None:
        with contextlib.suppress(OSError):
            return _find_peer(sock, info.state)
    return Peer.PRESENT


def _find_peer(sock: socket.socket, state: int) -> Peer:
    if state == CLOSE:  # after a reset, or when both sides have ended
        return Peer.RESET if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else Peer.LEFT
    ours, theirs = sock.getsockname(), sock.getpeername()
    inode = _inode(theirs, ours)
    if inode is not None:
        return Peer.PRESENT if inode else Peer.LEFT
    if state != CLOSE_WAIT:
        return Peer.PRESENT
    # Not found: gone, if it would be on this machine and the kernel can find our own socket.
    is_local = _address(theirs) == _address(ours) or _address(theirs).is_loopback
    return Peer.LEFT if is_local and _inode(ours, theirs) else Peer.UNKNOWN


def _inode(end: tuple[Any, ...], other: tuple[Any, ...]) -> int | None:
    """The inode of the TCP socket between ``end`` and ``other``; 0 if no process has it open.

    None when there is no such socket, or the kernel cannot look for it.
    """
    source, target = _address(end), _address(other)
    ports = end[1].to_bytes(2), other[1].to_bytes(2)
    scope = end[3] if end[2:] else 0
    request = _REQUEST.pack(
        *(_REQUEST.size, _BY_FAMILY, _IS_REQUEST, 0, 0),
        *(_FAMILY[source.version], socket.IPPROTO_TCP, _ALL_STATES),
        *(*ports, source.packed, target.packed, scope, _NO_COOKIE),
    )
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as netlink:
            netlink.setblocking(False)
            netlink.send(request)
            answer = netlink.recv(_MAX_ANSWER)
    except OSError:
        return None
    is_found = _TYPE.unpack_from(answer)[0] == _BY_FAMILY
    return int(_INODE.unpack_from(answer)[0]) if is_found else None


def _address(end: tuple[Any, ...]) -> Address:
    address = ipaddress.ip_address(end[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address  # a client of IPv4 at a socket of IPv6 has a socket of IPv4
