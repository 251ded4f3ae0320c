"""The Dialer that goes through the tunnels that are up: nothing of it is seen outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from circumvent.api import Datagrams, TlsOptions, WebSocketOptions
from circumvent.api.streams import ByteStream, SecureStream
from circumvent.errors import UnsupportedError
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.websocket import open_websocket
from circumvent.wire.address import Destination


class TunnelDialer:
    """Implements ``circumvent.api.Dialer`` by ``open``, the dispatcher's.

    ``tls`` is its own, so that no TLS ticket is seen both through tunnels and straight.
    """

    def __init__(
        self, open_: Callable[[Destination], Awaitable[ByteStream]], tls: TlsClient
    ) -> None:
        self._open = open_
        self._tls = tls

    async def tcp(self, host: str, port: int) -> ByteStream:
        """A stream of any tunnel; raises NoTunnelError, RemoteError."""
        return await self._open(Destination(host, port))

    async def tls(self, stream: ByteStream, options: TlsOptions) -> SecureStream:
        """Start TLS inside ``stream``; raises HandshakeError."""
        return await self._tls.start(stream, options)

    async def websocket(self, stream: ByteStream, options: WebSocketOptions) -> ByteStream:
        """Ask for a WebSocket inside ``stream``; raises HandshakeError."""
        return await open_websocket(stream, options)

    async def udp(self, host: str, port: int) -> Datagrams:  # noqa: ARG002 - none can be had
        """Raises UnsupportedError."""
        message = "tunnels carry no datagrams: ask over TCP"
        raise UnsupportedError(message, stage="udp")

    async def resolve(self, name: str) -> Sequence[str]:
        """The name itself: only the far side looks it up."""
        return (name,)
