"""The common part of all streams that drive a socket of their own."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from circumvent.api.streams import ByteStream, Vitals
from circumvent.errors import StreamResetError
from circumvent.net.readiness import Watch, send_room
from circumvent.net.tcp_info import ask_for_sign, tcp_info, unacknowledged

# A server far away fills the receive buffer within one round trip: 1 MiB is 40 Mbit/s at
# 200 ms. A small budget also gets small buffers in the kernel.
RECEIVE_BUFFERS = (64 * 1024, 1024 * 1024)
SEND_BUFFERS = (16 * 1024, 256 * 1024)
_RECEIVE_SHARE, _SEND_SHARE = 16, 64  # parts of the arena, per socket
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close sends RST
CLOSE_SECONDS = 5.0  # in which the kernel must have room for a close message
TAKEN_SECONDS = 2.0  # without progress after which a peer that leaves our last bytes is reset
_FIRST_LOOK, _LATER_LOOKS = 0.005, 0.1  # seconds between two looks whether it took them
_FRESH_ROOM = 16 * 1024  # a new socket's buffer is empty
_LEFT = 64 * 1024  # a peer that sends more than that while we close may see a reset
_KNOWN_ROOM = 8 * 1024  # ask the kernel again only when less than this is known to be free


@dataclass(frozen=True, slots=True)
class SocketBuffers:
    """Sizes of a socket's buffers in the kernel, in bytes.

    Explicit, because an unread socket whose buffers the kernel tunes may hold megabytes.
    """

    send: int = SEND_BUFFERS[1]
    receive: int = RECEIVE_BUFFERS[1]

    @classmethod
    def beside(cls, arena: int) -> SocketBuffers:
        """The sizes that go with an arena of ``arena`` bytes."""
        return cls(
            send=_within(SEND_BUFFERS, arena // _SEND_SHARE),
            receive=_within(RECEIVE_BUFFERS, arena // _RECEIVE_SHARE),
        )


async def send_close(stream: ByteStream, attempt: Callable[[], bool]) -> None:
    """Call ``attempt`` until it succeeds, each time that ``stream`` can be written; not for long.

    ``attempt`` writes the protocol's close message; without it the peer takes the stream for cut.
    """
    with contextlib.suppress(StreamResetError, TimeoutError):  # the peer is gone
        if attempt():
            return
        async with asyncio.timeout(CLOSE_SECONDS):
            while not attempt():
                await stream.wait_writable()


async def delivered(stream: ByteStream, patience: float | None = None) -> None:
    """Return when the peer's kernel has all that was sent, or takes nothing for ``patience``.

    ``patience`` is in seconds, by default TAKEN_SECONDS. Wait for this before a reset, which throws
    away what the peer's kernel does not have; the rest the peer can still read.
    """
    seconds = TAKEN_SECONDS if patience is None else patience
    pause, last, deadline = _FIRST_LOOK, 0, math.inf
    while (left := stream.unacknowledged()) and time.monotonic() < deadline:
        if left != last:
            last, deadline = left, time.monotonic() + seconds
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LATER_LOOKS)


def _within(bounds: tuple[int, int], size: int) -> int:
    return min(max(size, bounds[0]), bounds[1])


def prepare(sock: socket.socket, buffers: SocketBuffers) -> None:
    """Set the options that every socket of the data path has."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers.send)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers.receive)


def reset_error(step: str, error: OSError) -> StreamResetError:
    """The error that says a connection broke while reading or writing."""
    text = error.strerror or "the peer broke the connection"
    return StreamResetError(f"connection lost: {text}", stage=step, errno=error.errno)


def drain(sock: socket.socket) -> None:
    """Read and drop what has come, whatever drives ``sock``: closing with unread bytes resets."""
    with contextlib.suppress(OSError):
        socket.socket.recv(sock, _LEFT)


class SocketStream(ByteStream):
    """Owns a non-blocking socket and the watch on it; subclasses read and send."""

    __slots__ = ("_room", "_sock", "_unsent", "_watch")

    def __init__(self, sock: socket.socket, ready: Watch) -> None:
        self._sock = sock
        self._watch = ready
        self._unsent: memoryview | None = None
        self._room = _FRESH_ROOM

    @abstractmethod
    def _send(self, view: memoryview) -> int:
        """Bytes that the kernel took; raises StreamResetError."""

    def wait_readable(self) -> Awaitable[None]:
        return self._watch.wait_readable()

    def room(self) -> int:
        if self._unsent is not None:
            return 0
        if self._room < _KNOWN_ROOM:
            try:
                self._room = send_room(self._sock)
            except OSError:  # closed meanwhile: the write will raise
                return _KNOWN_ROOM
        return self._room

    def wait_writable(self) -> Awaitable[None]:
        self._room = 0
        return self._watch.wait_writable()

    def write(self, block: memoryview, start: int, end: int) -> int:
        self._unsent = block[start:end]
        self.flush()
        return end - start

    @property
    def unsent(self) -> memoryview | None:
        return self._unsent

    @unsent.setter
    def unsent(self, view: memoryview | None) -> None:
        self._unsent = view

    def flush(self) -> bool:
        view = self._unsent
        if view is None:
            return True
        sent = self._send(view)
        if sent < len(view):
            self._unsent = view[sent:]
            self._room = 0
            return False
        self._unsent = None
        self._room -= sent
        return True

    async def aclose(self) -> None:
        drain(self._sock)
        self.hang_up()

    def abort(self) -> None:
        if self._sock.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.hang_up()

    def vitals(self) -> Vitals | None:
        info = tcp_info(self._sock)
        if info is None:
            return None
        silence = min(info.since_received, info.since_acknowledged)
        return Vitals(silence, info.unanswered, info.rtt, max(info.rtt - info.least_rtt, 0.0))

    def unacknowledged(self) -> int:
        return unacknowledged(self._sock)

    def ask_for_sign(self, *, wanted: bool) -> None:
        ask_for_sign(self._sock, wanted=wanted)

    def hang_up(self) -> None:
        """Close without a close message; without a reset unless bytes are unread. Idempotent."""
        self._unsent = None
        self._watch.close()
        self._sock.close()
