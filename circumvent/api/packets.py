"""Datagrams: to and from one address, and packets of a user to and from any."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Self

from circumvent.wire.address import Destination


class PacketPipe(ABC):
    """Packets (UDP) to and from any destination; some are lost, some come in another order.

    Works in the caller's block, never blocks and never allocates, as a ByteStream.

    ``headroom``: bytes in front of a packet that ``send`` may overwrite.
    ``overhead``: bytes of a buffer that ``receive_into`` needs beyond the packet.
    """

    headroom: int = 0
    overhead: int = 0

    @abstractmethod
    def wait_readable(self) -> Awaitable[None]:
        """Return when ``receive_into`` is worth a try (a packet or an error)."""

    @abstractmethod
    def receive_into(self, buffer: memoryview) -> tuple[int, Destination] | None:
        """The size of the next packet and where it came from; None when none is there yet.

        The packet starts at ``buffer[0]``; the whole buffer may be used as scratch. A packet that
        does not fit is dropped. Raises StreamResetError when what carries the packets broke,
        ProtocolError when the peer sent what its protocol forbids.
        """

    @abstractmethod
    def send(self, block: memoryview, start: int, end: int, destination: Destination) -> bool:
        """Send ``block[start:end]``; False: it was dropped, for there is no room now.

        At least ``headroom`` bytes in front of ``start`` are scratch, and so is the packet.
        Raises StreamResetError when what carries the packets broke.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close in order; never raises; idempotent."""

    @abstractmethod
    def abort(self) -> None:
        """Close at once; wakes who waits; never raises; idempotent."""


class Datagrams(ABC):
    """An endpoint for datagrams to and from one address; a context manager."""

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Send one; it may be lost. Raises StreamResetError when the address refuses it."""

    @abstractmethod
    async def receive(self, seconds: float) -> bytes:
        """The next one, from that address only; one that is too long is left out.

        Raises TimeoutError after so many seconds, StreamResetError when the address refuses. A
        forger on the path can cause either: ask on, and let a signature decide.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the socket; idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
