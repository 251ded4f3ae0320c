"""The one pipe of the house: a reliable, ordered stream of bytes.

Reads and writes never block and never allocate: they work in a block that the caller leases
from the arena. A layer (TLS, Shadowsocks, ...) is a ByteStream that holds a ByteStream and
transforms in the caller's block. Only the pump and the helpers in ``exchange`` lease.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import NamedTuple


class Vitals(NamedTuple):
    """What the kernel knows of the connection below a stream; times in seconds.

    ``silence``: since the other end's kernel last said anything, if only that it took what was
    sent. ``unanswered``: how often since then it was asked in vain. ``rtt`` is the smoothed
    round-trip time, ``queueing`` what it has above the least that was seen.
    """

    silence: float
    unanswered: int
    rtt: float
    queueing: float


class ByteStream(ABC):
    """A reliable, ordered, bidirectional pipe of bytes.

    ``headroom``: bytes in front of the data that ``write`` may overwrite.
    ``record``: length of the smallest buffer that ``read_into`` can use.
    ``overhead``: bytes of a buffer that ``read_into`` needs beyond what it returns.
    """

    headroom: int = 0
    record: int = 1
    overhead: int = 0
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

        The end of file is a promise that nothing is missing. Where the protocol has a goodbye
        (TLS's close_notify, a close frame) or a length, a connection that ends without it, or
        in the middle, was *cut*: anybody on the way can do that. What came whole before a cut
        is returned first.

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

        A layer's farewell may find the kernel full: call ``flush`` until it is True again.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close in order (a TLS layer says goodbye); never raises."""

    @abstractmethod
    def abort(self) -> None:
        """Cut at once, with a reset where the base is a socket; never raises; idempotent."""

    def vitals(self) -> Vitals | None:
        """How the connection below is; None where there is no single one, or nobody knows."""
        return None

    def unacknowledged(self) -> int:
        """Bytes sent that the other end's kernel does not have yet; 0 where nobody knows."""
        return 0

    def ask_for_sign(self, *, wanted: bool) -> None:  # noqa: B027 - as ``vitals``
        """Let the kernel ask the other end's for a sign of life every second, or no more."""


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


class LayerStream(ByteStream):
    """A layer that passes everything on to its base; override what it transforms."""

    __slots__ = ("base",)

    def __init__(self, base: ByteStream) -> None:
        self.base = base
        self.headroom = base.headroom
        self.record = base.record
        self.overhead = base.overhead

    # Handed through, not awaited: a coroutine per layer would stay in memory while it waits.

    def wait_readable(self) -> Awaitable[None]:
        return self.base.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        return self.base.read_into(buffer)

    def room(self) -> int:
        return self.base.room()

    def wait_writable(self) -> Awaitable[None]:
        return self.base.wait_writable()

    def write(self, block: memoryview, start: int, end: int) -> int:
        return self.base.write(block, start, end)

    @property
    def unsent(self) -> memoryview | None:
        return self.base.unsent

    @unsent.setter
    def unsent(self, view: memoryview | None) -> None:
        self.base.unsent = view

    def flush(self) -> bool:
        return self.base.flush()

    def write_eof(self) -> None:
        self.base.write_eof()

    async def aclose(self) -> None:
        await self.base.aclose()

    def abort(self) -> None:
        self.base.abort()

    def vitals(self) -> Vitals | None:
        return self.base.vitals()

    def unacknowledged(self) -> int:
        return self.base.unacknowledged()

    def ask_for_sign(self, *, wanted: bool) -> None:
        self.base.ask_for_sign(wanted=wanted)


class HeaderStream(LayerStream):
    """Puts ``header`` in front of the first write, in one flight with its data.

    Most proxy protocols open a stream this way; sending both together saves a packet whose
    length would give the protocol away.
    """

    def __init__(self, base: ByteStream, header: bytes) -> None:
        super().__init__(base)
        self._header = header
        self.headroom = base.headroom + len(header)

    def write(self, block: memoryview, start: int, end: int) -> int:
        if not self._header:
            return self.base.write(block, start, end)
        size = len(self._header)
        block[start - size : start] = self._header
        self._header = b""
        self.headroom = self.base.headroom
        return self.base.write(block, start - size, end) - size
