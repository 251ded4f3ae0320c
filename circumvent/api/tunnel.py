"""Tunnels: what opens streams, and pipes of packets, to destinations on the free side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from circumvent.api.packets import PacketPipe
from circumvent.api.streams import ByteStream
from circumvent.errors import UnsupportedError
from circumvent.wire.address import Destination


@dataclass(frozen=True, slots=True)
class CarrierStatus:
    """One carrier of a bonded tunnel: ``kind`` as in "tls IPv6", ``state`` as that of a tunnel."""

    kind: str
    state: str
    rtt_ms: float
    bytes_up: int
    bytes_down: int


class Tunnel(ABC):
    """Opens streams to destinations on the free side.

    ``replies`` is True where ``open`` fails if the destination cannot be reached; elsewhere
    it returns as soon as the server was reached, and a bad destination shows as an early end.
    ``resumes`` is True where streams outlive the loss of every connection for a while: silence
    alone then condemns the tunnel only after a minute.
    """

    replies: bool = False
    resumes: bool = False

    @abstractmethod
    async def open(self, destination: Destination) -> ByteStream:
        """Open a stream; raises DialError, HandshakeError, DestinationError."""

    async def open_packets(self) -> PacketPipe:
        """Open a pipe of packets; raises DialError, HandshakeError.

        Raises UnsupportedError where the protocol, or this version, carries none.
        """
        raise UnsupportedError("this tunnel carries no packets", stage="udp")

    @property
    def carriers(self) -> Sequence[CarrierStatus]:
        """The connections that its streams share, for ``status``, if they share any."""
        return ()

    def revalidate(self) -> None:  # noqa: B027 - most tunnels hold nothing between streams
        """The network changed: connections may be dead although nothing shows it."""

    async def aclose(self) -> None:  # noqa: B027 - as above
        """Release what the tunnel itself holds; open streams are not touched."""
