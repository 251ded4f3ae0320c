"""TCP: raw non-blocking sockets whose unread bytes stay in the kernel."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys

from circumvent.api.streams import PeekStream
from circumvent.errors import DialError
from circumvent.memory import LARGEST, anonymous
from circumvent.net.patience import note_reached
from circumvent.net.readiness import Watch, watch
from circumvent.net.sockets import SocketBuffers, SocketStream, prepare, reset_error

_DISCARD = socket.MSG_TRUNC if sys.platform == "linux" else 0
_UNBLOCKED = getattr(os, "SPLICE_F_NONBLOCK", 0) | getattr(os, "SPLICE_F_MOVE", 0)  # Linux
# Where discarded bytes go. With MSG_TRUNC the kernel writes nothing, so its pages never exist.
_NOWHERE = anonymous(LARGEST)

_DEFAULT_BUFFERS = SocketBuffers()


class TcpStream(SocketStream, PeekStream):
    """A connected, non-blocking TCP socket, which it owns.

    ``is_read_to_end`` once ``read_into`` has returned the end of file.
    """

    __slots__ = ("_expected", "_short", "_starved", "is_read_to_end")

    def __init__(self, sock: socket.socket, ready: Watch | None = None) -> None:
        super().__init__(sock, ready or watch(sock.fileno()))
        self._expected = 1
        self._short = False
        self._starved = False
        self.is_read_to_end = False

    def read_into(self, buffer: memoryview) -> int | None:
        count = self._receive(buffer, 0)
        if self._short:
            if count:
                self._watch.drained()
            elif count == 0:
                self.is_read_to_end = True
        return count

    def peek_into(self, buffer: memoryview) -> int | None:
        return self._receive(buffer, socket.MSG_PEEK)

    def _receive(self, buffer: memoryview, flags: int) -> int | None:
        try:
            count = self._sock.recv_into(buffer, 0, flags)
        except BlockingIOError:
            self._short = True
            self._watch.ended = False
            self._watch.drained()
            return None
        except OSError as error:
            raise reset_error("read", error) from error
        self._short = count < len(buffer)
        self._starved = self._short and count < self._expected
        return count

    @property
    def raw_source(self) -> TcpStream:
        return self

    raw_sink = raw_source

    def splice_into(self, pipe: int, most: int) -> int | None:
        """As ``read_into``, but into a pipe that is empty, and inside of the kernel."""
        try:
            count = os.splice(self._sock.fileno(), pipe, most, flags=_UNBLOCKED)
        except BlockingIOError:
            self._short = True
            self._watch.ended = False
            self._watch.drained()
            return None
        except OSError as error:
            raise reset_error("read", error) from error
        self.is_read_to_end = not count
        return count

    def splice_from(self, pipe: int, count: int) -> int:
        """Send ``count`` bytes of a pipe; how many of them the kernel took."""
        try:
            sent = os.splice(pipe, self._sock.fileno(), count, flags=_UNBLOCKED)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise reset_error("write", error) from error
        self._room = self._room - sent if sent == count else 0
        return sent

    def discard(self, count: int) -> None:
        try:
            while count:
                count -= self._sock.recv_into(_NOWHERE, min(count, LARGEST), _DISCARD)
        except OSError as error:
            raise reset_error("read", error) from error

    def expect(self, count: int) -> None:
        if self._short:
            self._watch.drained()
        elif count >= self._expected:  # the last buffer was full: more can be read at once
            return
        # Set again even if it is the same: the kernel then checks whether its buffer is full.
        if count > 1 or count != self._expected:
            with contextlib.suppress(OSError):  # a broken socket shows at the next read
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
                self._expected = count

    @property
    def ended(self) -> bool:
        return self._short and self._watch.ended

    @property
    def starved(self) -> bool:
        return self._starved

    def _send(self, view: memoryview) -> int:
        try:
            return self._sock.send(view)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise reset_error("write", error) from error

    def write_eof(self) -> None:
        with contextlib.suppress(OSError):  # the peer may be gone already
            self._sock.shutdown(socket.SHUT_WR)

    def detach(self) -> tuple[socket.socket, Watch]:
        """The socket and its watch, for a layer that drives the socket itself."""
        return self._sock, self._watch

    @property
    def peer(self) -> str:
        with contextlib.suppress(OSError):
            return str(self._sock.getpeername()[0])
        return ""

    @property
    def place(self) -> str:
        """The other end's address and port, to recognise it; empty when the connection broke."""
        with contextlib.suppress(OSError):
            return str(self._sock.getpeername())
        return ""


async def connect(address: str, port: int, buffers: SocketBuffers = _DEFAULT_BUFFERS) -> TcpStream:
    """Connect to an IP address; raises DialError with the errno."""
    try:
        sock = socket.socket(
            socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM
        )
    except OSError as error:  # no descriptors left, or no such family here
        raise DialError(f"no socket: {error.strerror}", stage="tcp", errno=error.errno) from error
    ready: Watch | None = None
    try:
        prepare(sock, buffers)
        code = sock.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            ready = watch(sock.fileno())
            ready.readable = False  # nothing was received yet
            await ready.wait_writable()
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise DialError(
                f"no connection to the server: {os.strerror(code)}", stage="tcp", errno=code
            )
        note_reached()
        return TcpStream(sock, ready)
    except BaseException:
        if ready is not None:
            ready.close()
        sock.close()
        raise
