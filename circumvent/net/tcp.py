"""TCP: raw non-blocking sockets whose unread bytes stay in the kernel."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import socket
import struct
import sys

from circumvent.api.streams import PeekStream
from circumvent.errors import DialError, StreamResetError
from circumvent.memory import LARGEST
from circumvent.net.readiness import Watch, send_room, watch

# Explicit, because an unread autotuned socket may hold megabytes of kernel memory. 256 KiB
# (which Linux doubles for its own bookkeeping) let one stream fill 20 Mbit/s at 100 ms.
RECEIVE_BUFFER = 256 * 1024
SEND_BUFFER = 256 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close sends RST
_DISCARD = getattr(socket, "MSG_TRUNC", 0) if sys.platform == "linux" else 0
_KNOWN_ROOM = 32 * 1024  # ask the kernel again only when less than this is known to be free


class TcpStream(PeekStream):
    """A connected, non-blocking TCP socket, which it owns."""

    __slots__ = ("_expected", "_room", "_sock", "_unsent", "_watch")
    headroom = 0
    record = 1

    def __init__(self, sock: socket.socket, ready: Watch | None = None) -> None:
        self._sock = sock
        self._watch = ready or watch(sock.fileno())
        self._unsent: memoryview | None = None
        self._expected = 1
        self._room = 0

    async def wait_readable(self) -> None:
        await self._watch.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        return self._receive(buffer, 0)

    def peek_into(self, buffer: memoryview) -> int | None:
        return self._receive(buffer, socket.MSG_PEEK)

    def _receive(self, buffer: memoryview, flags: int) -> int | None:
        try:
            count = self._sock.recv_into(buffer, 0, flags)
        except BlockingIOError:
            self._watch.ended = False
            self._watch.drained()
            return None
        except OSError as error:
            raise _reset("read", error) from error
        if 0 < count < len(buffer) and not flags:
            self._watch.drained()
        return count

    def discard(self, count: int) -> None:
        while count:
            count -= self._sock.recv_into(_NOWHERE, min(count, len(_NOWHERE)), _DISCARD)

    def expect(self, count: int) -> None:
        if count != self._expected:
            self._expected = count
            with contextlib.suppress(OSError):  # a broken socket shows at the next read
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
        if count > 1:
            self._watch.drained()

    @property
    def ended(self) -> bool:
        """Whether the peer has closed its side: no more bytes than the kernel holds now."""
        return self._watch.ended

    def room(self) -> int:
        if self._unsent is not None:
            return 0
        if self._room < _KNOWN_ROOM:
            try:
                self._room = send_room(self._sock)
            except OSError:  # closed under us: the write says so
                return _KNOWN_ROOM
        return self._room

    async def wait_writable(self) -> None:
        self._room = 0
        await self._watch.wait_writable()

    def write(self, block: memoryview, start: int, end: int) -> int:
        self._send(block[start:end])
        return end - start

    def _send(self, view: memoryview) -> None:
        try:
            sent = self._sock.send(view)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise _reset("write", error) from error
        if sent < len(view):
            self._unsent = view[sent:]
            self._room = 0
        else:
            self._unsent = None
            self._room -= sent

    @property
    def unsent(self) -> memoryview | None:
        return self._unsent

    @unsent.setter
    def unsent(self, view: memoryview | None) -> None:
        self._unsent = view

    def flush(self) -> bool:
        if self._unsent is not None:
            self._send(self._unsent)
        return self._unsent is None

    def write_eof(self) -> None:
        with contextlib.suppress(OSError):  # the peer may be gone already
            self._sock.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        self._close()

    def abort(self) -> None:
        if self._sock.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._close()

    def _close(self) -> None:
        self._unsent = None
        self._watch.close()
        self._sock.close()

    def detach(self) -> tuple[socket.socket, Watch]:
        """Give socket and watch to a layer that drives the socket itself."""
        return self._sock, self._watch

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def peer(self) -> str:
        """The IP address at the other end, or an empty string."""
        with contextlib.suppress(OSError):
            return str(self._sock.getpeername()[0])
        return ""


# Where discarded bytes end. With MSG_TRUNC the kernel writes nothing, so its pages never exist.
_NOWHERE = mmap.mmap(-1, LARGEST)


def prepare(sock: socket.socket, *, send_buffer: int = SEND_BUFFER) -> None:
    """Set what every socket of the data path has set."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)


async def connect(address: str, port: int, *, receive_buffer: int = RECEIVE_BUFFER) -> TcpStream:
    """Connect to an IP address; raises DialError with the errno."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    ready: Watch | None = None
    try:
        prepare(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        code = sock.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            ready = watch(sock.fileno())
            await ready.wait_writable()
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            _refuse(code)
        return TcpStream(sock, ready)
    except BaseException:
        if ready is not None:
            ready.close()
        sock.close()
        raise


def _refuse(code: int) -> None:
    message = f"no connection to the server: {os.strerror(code)}"
    raise DialError(message, stage="tcp", errno=code)


def _reset(step: str, error: OSError) -> StreamResetError:
    return StreamResetError(f"connection lost: {error.strerror}", stage=step, errno=error.errno)
