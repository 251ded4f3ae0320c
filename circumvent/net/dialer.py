"""The Dialer that plugins are handed: every connection of the client starts here."""

from __future__ import annotations

from collections.abc import Sequence

from circumvent.api.contracts import TlsOptions, WebSocketOptions
from circumvent.api.datagrams import Datagrams
from circumvent.api.streams import ByteStream, PeekStream, SecureStream
from circumvent.errors import DialError
from circumvent.net import tcp, udp
from circumvent.net.neighbourhood import HandshakeQueues
from circumvent.net.resolver import Resolver
from circumvent.net.sockets import SocketBuffers
from circumvent.net.stagger import first_success
from circumvent.net.tls import TlsClient
from circumvent.net.websocket import open_websocket

_NEXT_ADDRESS_AFTER = 0.25  # RFC 8305 §5: Connection Attempt Delay, seconds


class NetDialer:
    """Connects over the machine's own network. Implements ``circumvent.api.NetworkDialer``."""

    def __init__(self, tls: TlsClient, buffers: SocketBuffers | None = None) -> None:
        self._tls = tls
        self._buffers = buffers or SocketBuffers()
        self._handshakes = HandshakeQueues()
        self._resolver = Resolver()

    async def tcp(self, host: str, port: int) -> PeekStream:
        """Connect to the first address of ``host`` that answers; raises DialError."""
        addresses = self._resolver.known(host) or await self._resolver.resolve(host)
        try:
            if len(addresses) == 1:
                return await tcp.connect(addresses[0], port, self._buffers)
            return await self._connect_any(addresses, port)
        except DialError:
            self._resolver.forget(host)
            raise

    async def tls(self, stream: ByteStream, options: TlsOptions) -> SecureStream:
        """Start TLS on ``stream``; where a censor sees it, when it is its turn.

        Raises HandshakeError.
        """
        try:
            if not isinstance(stream, tcp.TcpStream):
                return await self._tls.start(stream, options)
            async with self._handshakes.turn(stream.peer):
                return await self._tls.start(stream, options)
        except BaseException:
            stream.abort()
            raise

    async def websocket(self, stream: ByteStream, options: WebSocketOptions) -> ByteStream:
        """Ask for a WebSocket inside ``stream``; raises HandshakeError."""
        return await open_websocket(stream, options)

    async def udp(self, host: str, port: int) -> Datagrams:
        """Datagrams to and from the first address of ``host``; raises DialError."""
        addresses = await self._resolver.resolve(host)
        return udp.connect(addresses[0], port)

    async def resolve(self, name: str) -> Sequence[str]:
        """IP addresses of a server's name; raises DialError."""
        return await self._resolver.resolve(name)

    def forget(self) -> None:
        """Names may lead elsewhere now, and a TLS ticket seen twice would link both places."""
        self._resolver.forget_all()
        self._tls.forget()

    async def _connect_any(self, addresses: Sequence[str], port: int) -> PeekStream:
        """Happy Eyeballs (RFC 8305), where there is a choice."""
        if not addresses:
            message = "the server's name has no addresses"
            raise DialError(message, stage="resolve")
        entrants = [tcp.connect(address, port, self._buffers) for address in _interleave(addresses)]
        return await first_success(entrants, _NEXT_ADDRESS_AFTER, PeekStream.abort)


def _interleave(addresses: Sequence[str]) -> list[str]:
    """Alternate the families (RFC 8305 §4), the resolver's first choice first."""
    first_is_six = ":" in addresses[0]
    same = [address for address in addresses if (":" in address) == first_is_six]
    other = [address for address in addresses if (":" in address) != first_is_six]
    mixed = [address for pair in zip(same, other, strict=False) for address in pair]
    return mixed + same[len(other) :] + other[len(same) :]
