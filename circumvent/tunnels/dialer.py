"""The Dialer that goes through the tunnels that are up: nothing of it is seen outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from circumvent.api import Datagrams
from circumvent.api.streams import ByteStream, Route, TlsEngine
from circumvent.errors import UnsupportedError
from circumvent.wire.address import Destination


class TunnelDialer:
    """Implements ``circumvent.api.Dialer`` by ``open``, the dispatcher's.

    ``tls`` is its own, so that no TLS ticket is seen both through tunnels and straight.
    """

    def __init__(
        self, open_: Callable[[Destination], Awaitable[ByteStream]], tls: TlsEngine
    ) -> None:
        self._open = open_
        self._route = Route(tls)

    async def tcp(self, host: str, port: int) -> ByteStream:
        """A stream of any tunnel; raises NoTunnelError, RemoteError."""
        stream = await self._open(Destination(host, port))
        stream.route = self._route
        return stream

    async def udp(self, host: str, port: int) -> Datagrams:  # noqa: ARG002 - none can be had
        """Raises UnsupportedError."""
        raise UnsupportedError("tunnels carry no datagrams: ask over TCP", stage="udp")

    async def resolve(self, name: str) -> Sequence[str]:
        """The name itself: only the far side looks it up."""
        return (name,)
