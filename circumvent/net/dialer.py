"""The Dialer that plugins are handed: every connection of the client starts here."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

from circumvent.api import Datagrams, TlsOptions, WebSocketOptions
from circumvent.api.streams import ByteStream, PeekStream, SecureStream
from circumvent.errors import DialError
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.websocket import open_websocket
from circumvent.net import tcp, udp
from circumvent.net.guard import Guard, as_typed
from circumvent.net.happy_eyeballs import AddressCache
from circumvent.net.neighbourhood import HandshakeQueues
from circumvent.net.patience import note_answered, note_reached
from circumvent.net.resolver import Resolver
from circumvent.net.sockets import SocketBuffers


class NetDialer:
    """Connects over the machine's own network. Implements ``circumvent.api.NetworkDialer``.

    ``guard`` is asked about every address, after names were looked up; as if the user had named
    everything unless another one is given.
    """

    def __init__(
        self, tls: TlsClient, buffers: SocketBuffers | None = None, guard: Guard = as_typed
    ) -> None:
        self._guard = guard
        self._tls = tls
        self._buffers = buffers or SocketBuffers()
        self._handshakes = HandshakeQueues()
        self._resolver = Resolver()
        self._answered = AddressCache()

    def guarded(self, guard: Guard) -> Self:
        """A dialer with another guard, over the same queues, tickets and names."""
        other = copy.copy(self)
        other._guard = guard  # noqa: SLF001 - of our own kind
        return other

    async def tcp(self, host: str, port: int) -> PeekStream:
        """Connect to the first address of ``host`` that answers; raises DialError."""
        addresses = self._resolver.known(host) or await self._resolver.resolve(host)
        addresses = self._allowed(host, addresses, port)
        try:
            return await self._answered.connect((host, port), addresses, self._buffers)
        except DialError:
            self._resolver.doubt(host)
            raise

    async def tls(self, stream: ByteStream, options: TlsOptions) -> SecureStream:
        """Start TLS on ``stream``; where a censor sees it, when it is its turn.

        Raises HandshakeError.
        """
        try:
            if not isinstance(stream, tcp.TcpStream):
                return await self._tls.start(stream, options)
            async with self._handshakes.turn(stream.peer):
                secure = await self._tls.start(stream, options)
        except BaseException:
            await stream.aclose()
            raise
        note_answered()
        return secure

    async def websocket(self, stream: ByteStream, options: WebSocketOptions) -> ByteStream:
        """Ask for a WebSocket inside ``stream``; raises HandshakeError."""
        return await open_websocket(stream, options)

    async def udp(self, host: str, port: int) -> Datagrams:
        """Datagrams to and from the first address of ``host``; raises DialError."""
        addresses = self._allowed(host, await self._resolver.resolve(host), port)
        note_reached()  # there is nothing to wait for
        return udp.connect(addresses[0], port)

    async def resolve(self, name: str) -> Sequence[str]:
        """IP addresses of a server's name; raises DialError."""
        return self._allowed(name, await self._resolver.resolve(name), 0)

    def _allowed(self, host: str, addresses: Sequence[str], port: int) -> Sequence[str]:
        allowed = [address for address in addresses if self._guard(host, address, port)]
        if not allowed:
            message = (
                "leads to this machine or a private network, and nobody typed that address"
                " (for labs: --allow-private)"
            )
            raise DialError(message, stage="guard")
        return allowed

    def forget(self) -> None:
        """Names may lead elsewhere now, and a TLS ticket seen twice would link both places."""
        self._resolver.forget_all()
        self._answered.forget()
        self._tls.forget()
