"""Whether a client is still there, where its stream alone cannot tell."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod

from circumvent.inbound.options import InboundTimings
from circumvent.inbound.peer import Peer, find_peer
from circumvent.net.readiness import Watch
from circumvent.net.tcp import TcpStream
from circumvent.net.tcp_info import tcp_info, unread


class Presence(ABC):
    """What is known of a client beyond what it sends."""

    __slots__ = ()

    @abstractmethod
    def idle_seconds(self) -> float:
        """How long no data went either way; 0 where that is unknown."""

    @abstractmethod
    def has_left(self, now: float, *, is_tunnel: bool) -> bool:
        """Whether the client has left, at ``now`` (``time.monotonic``).

        ``is_tunnel``: what the client sent before it left is still wanted.
        """


class AssumedPresence(Presence):
    """For streams that report their end themselves, such as those of a packet tunnel."""

    __slots__ = ()

    def idle_seconds(self) -> float:
        return 0.0

    def has_left(self, now: float, *, is_tunnel: bool) -> bool:  # noqa: ARG002
        return False


class SocketPresence(Presence):
    """Asks the kernel about a client's TCP connection."""

    __slots__ = ("_moved_at", "_sock", "_stream", "_timings", "_unread", "_watch")

    def __init__(
        self, sock: socket.socket, watch: Watch, stream: TcpStream, timings: InboundTimings
    ) -> None:
        self._sock = sock
        self._watch = watch
        self._stream = stream
        self._timings = timings
        self._unread = -1
        self._moved_at = 0.0

    def idle_seconds(self) -> float:
        """Asking the kernel now and then is what makes the idle limit free for the data path."""
        info = tcp_info(self._sock)
        return min(info.since_sent, info.since_received) if info is not None else 0.0

    def has_left(self, now: float, *, is_tunnel: bool) -> bool:
        """The kernel is asked only where there is a sign that the client has left.

        That is an end, or unread bytes: they may keep an end behind them from arriving.
        """
        if not (self._watch.ended or self._watch.readable):
            return False
        peer = find_peer(self._sock)
        if peer is Peer.UNKNOWN:
            return self.idle_seconds() > self._timings.half_closed
        if peer is Peer.LEFT and is_tunnel and not self._stream.is_read_to_end:
            return self._is_stalled(now)
        return peer is not Peer.PRESENT

    def _is_stalled(self, now: float) -> bool:
        """Whether what the client left behind has stopped to move."""
        left = unread(self._sock)
        if left != self._unread:
            self._unread, self._moved_at = left, now
        return now - self._moved_at > self._timings.delivery
