"""The only way to the network that plugins are handed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from circumvent.api.packets import Datagrams
from circumvent.api.streams import ByteStream, PeekStream


class Dialer(Protocol):
    """Connects: straight, or through the tunnels that are up.

    What goes over a connection (TLS, a WebSocket) is a ``Layer``. Each stream that a dialer gives
    says in ``route`` how it went out.
    """

    async def tcp(self, host: str, port: int) -> ByteStream:
        """Connect; raises DialError, and through tunnels NoTunnelError and RemoteError."""
        ...

    async def udp(self, host: str, port: int) -> Datagrams:
        """Exchange datagrams; raises DialError, and UnsupportedError through tunnels."""
        ...

    async def resolve(self, name: str) -> Sequence[str]:
        """What to connect to for a server's name, best first; raises DialError.

        IP addresses; through tunnels the name itself, which only the far side looks up.
        """
        ...


class NetworkDialer(Dialer, Protocol):
    """The Dialer of transports: straight on the network, with the kernel's own streams."""

    async def tcp(self, host: str, port: int) -> PeekStream:
        """Connect; raises DialError."""
        ...


class DialerWrapper:
    """A Dialer that passes everything on to another one; override what differs."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    async def tcp(self, host: str, port: int) -> ByteStream:
        """As the dialer; raises DialError."""
        return await self._dialer.tcp(host, port)

    async def udp(self, host: str, port: int) -> Datagrams:
        """As the dialer; raises DialError."""
        return await self._dialer.udp(host, port)

    async def resolve(self, name: str) -> Sequence[str]:
        """As the dialer; raises DialError."""
        return await self._dialer.resolve(name)
