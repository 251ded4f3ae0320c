"""The one kind of pipe: a reliable, ordered stream of bytes.

Reads and writes never block and never allocate: they work in a block that the caller leases
from the arena. A layer (TLS, Shadowsocks, ...) is a ByteStream that holds a ByteStream and
transforms in the caller's block. Only the pump and the helpers in ``exchange`` lease.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import NamedTuple, Protocol

from circumvent.api.tls import TlsOptions


class Vitals(NamedTuple):
    """What the kernel knows of the connection below a stream; times in seconds.

    ``silence``: since the other end's kernel last sent anything, if only an acknowledgement.
    ``unanswered``: how often since then it was asked without an answer. ``rtt`` is the smoothed
    round-trip time, ``queueing`` what it has above the least that was seen.
    """

    silence: float
    unanswered: int
    rtt: float
    queueing: float


class TlsEngine(Protocol):
    """The client's side of TLS: whom it trusts, and what it remembers of servers."""

    async def start(self, stream: ByteStream, options: TlsOptions) -> SecureStream:
        """Shake hands over ``stream`` and own it; raises HandshakeError and closes it then."""
        ...

    def forget(self) -> None:
        """Drop all tickets: one that is seen in two places links them."""
        ...


class Route:
    """How a connection left this machine; what layers over it must know of that.

    ``tls`` is the engine for connections that went out this way, and no other: a ticket that was
    seen through tunnels is never seen straight. ``inside`` is the route of what goes through a
    stream with this one: the same engine, but nobody on the path sees its handshakes. The base
    class is such a route.
    """

    __slots__ = ("inside", "tls")

    def __init__(self, tls: TlsEngine) -> None:
        self.tls = tls
        self.inside = self if type(self) is Route else Route(tls)

    def handshake(
        self,
        peer: str,  # noqa: ARG002 - nobody counts what nobody sees
        server_name: str,  # noqa: ARG002 - as above
    ) -> AbstractAsyncContextManager[None]:
        """Around one handshake on a connection to ``peer`` that shows ``server_name``.

        Waits until such a handshake may be seen again; raises DialError when that is too long.
        """
        return nullcontext()


class _NoTls:
    """The engine of streams that no dialer gave."""

    async def start(self, stream: ByteStream, options: TlsOptions) -> SecureStream:  # noqa: ARG002
        raise RuntimeError("no dialer gave this stream: whose tickets it may use is unknown")

    def forget(self) -> None:
        """It remembers nothing."""


class ByteStream(ABC):
    """A reliable, ordered, bidirectional pipe of bytes.

    ``headroom``: bytes in front of the data that ``write`` may overwrite.
    ``record``: length of the smallest buffer that ``read_into`` can use.
    ``overhead``: bytes of a buffer that ``read_into`` needs beyond what it returns.
    ``route``: set by the dialer that gave the stream, and passed on by what goes over it.
    """

    headroom: int = 0
    record: int = 1
    overhead: int = 0
    route: Route = Route(_NoTls())
    # ``write`` takes no more than ``room`` said, and what is not read is kept: more is in vain.
    is_strict: bool = False

    @abstractmethod
    def wait_readable(self) -> Awaitable[None]:
        """Return when ``read_into`` is worth a try (data, end of file or an error)."""

    @abstractmethod
    def read_into(self, buffer: memoryview) -> int | None:
        """Read without blocking; the bytes start at ``buffer[0]``.

        The whole buffer may be used as scratch. Returns the number of bytes, 0 at the end of
        file, None when nothing is there yet.

        The end of file is a promise that nothing is missing. Where the protocol announces its
        end (TLS's close_notify, a close frame) or has a length, a connection that ends without
        it, or in the middle, was *cut*: anybody on the path can do that. What came whole before a
        cut is returned first.

        Raises StreamResetError with the stage "read" when the connection broke or was cut,
        ProtocolError when the peer sent what its protocol forbids (a forged record).
        """

    @abstractmethod
    def room(self) -> int:
        """Bytes that ``write`` can be expected to pass on now; 0 means wait."""

    @abstractmethod
    def wait_writable(self) -> Awaitable[None]:
        """Return when ``room`` is above 0 or ``flush`` can move on, or the stream broke."""

    @abstractmethod
    def write(self, block: memoryview, start: int, end: int) -> int:
        """Take ``block[start:end]`` without blocking; returns how many bytes were taken.

        At least ``headroom`` bytes in front of ``start`` are scratch, and so are the taken
        bytes. What was taken but not sent stays *in the block* as ``unsent``: the block must
        live and stay untouched until ``flush`` returns True. An empty write
        (``start == end``) sends what a layer holds back for the first write, such as a
        header.

        Raises StreamResetError when the connection broke.
        """

    @property
    @abstractmethod
    def unsent(self) -> memoryview | None:
        """The taken bytes that wait for the kernel; may be re-homed by assigning a copy."""

    @unsent.setter
    @abstractmethod
    def unsent(self, view: memoryview | None) -> None: ...

    @abstractmethod
    def flush(self) -> bool:
        """Send on; True when nothing is unsent. Raises StreamResetError."""

    @abstractmethod
    def write_eof(self) -> None:
        """Say that no more bytes follow; reading goes on. Only after ``flush`` was True.

        A layer's last record may find the kernel full: call ``flush`` until it is True again.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close in order (TLS sends close_notify); never raises."""

    @abstractmethod
    def abort(self) -> None:
        """Cut at once, with a reset where the base is a socket; never raises; idempotent."""

    @property
    def peer(self) -> str:
        """The IP address at the other end of a connection; empty for every other stream."""
        return ""

    @property
    def raw_source(self) -> ByteStream | None:
        """The connection below whose bytes this stream's reads are from now on, if they are."""
        return None

    @property
    def raw_sink(self) -> ByteStream | None:
        """The connection below that gets the bytes written here as they are from now on, if so."""
        return None

    def vitals(self) -> Vitals | None:
        """How the connection below is; None where there is no single one, or it is unknown."""
        return None

    def unacknowledged(self) -> int:
        """Bytes sent that the other end's kernel does not have yet; 0 where nobody knows."""
        return 0

    def ask_for_sign(self, *, wanted: bool) -> None:  # noqa: B027 - as ``vitals``
        """Let the kernel ask the other end for a sign of life every second, or stop that."""


class ReplayableStream(ByteStream):
    """A stream whose next bytes can be looked at, and read later.

    So what a client sends first can go to one tunnel and, when that fails, to another. TCP leaves
    the bytes in the kernel; ``circumvent.net.replay.ReplayStream`` holds those of any other stream.
    """

    @abstractmethod
    def peek_into(self, buffer: memoryview) -> int | None:
        """As ``read_into``, but the bytes stay unread."""

    @abstractmethod
    def discard(self, count: int) -> None:
        """Drop ``count`` bytes that ``peek_into`` showed."""

    @abstractmethod
    def expect(self, count: int) -> None:
        """Let ``wait_readable`` sleep until ``count`` unread bytes are there (or the end)."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the peer closed its side: the last ``peek_into`` showed all there will be."""


class PeekStream(ReplayableStream):
    """A stream whose unread bytes stay in the kernel: a TCP connection."""

    @property
    @abstractmethod
    def starved(self) -> bool:
        """Whether the last wake-up brought less than was expected.

        Then it is the end, or the kernel has no room left for the rest: take out what is there.
        """


class SecureStream(ByteStream):
    """A stream inside TLS."""

    @abstractmethod
    def channel_binding(self) -> bytes:
        """Bytes that both ends of this channel know and that no other channel has.

        A proof over them cannot be passed on through somebody in between. RFC 5929 §3.
        """

    def server_key(self) -> bytes:
        """SHA-256 of the public key (SubjectPublicKeyInfo) that a server proved to have.

        Known at least where nothing else was asked of it (``TlsOptions.authenticates``); elsewhere
        it may be empty.
        """
        return b""
