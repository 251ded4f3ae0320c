"""The Dialer that plugins are handed: every connection of the client starts here."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from circumvent.api import Datagrams
from circumvent.api.streams import PeekStream, Route, TlsEngine
from circumvent.errors import DialError
from circumvent.net import udp
from circumvent.net.guard import Guard, as_typed
from circumvent.net.happy_eyeballs import AddressCache
from circumvent.net.neighbourhood import HandshakeQueues
from circumvent.net.patience import note_answered, note_reached
from circumvent.net.resolver import Resolver
from circumvent.net.sockets import SocketBuffers


class NetRoute(Route):
    """Straight out: handshakes with one network are seen a few at a time."""

    __slots__ = ("_queues",)

    def __init__(self, tls: TlsEngine, queues: HandshakeQueues | None = None) -> None:
        super().__init__(tls)
        self._queues = HandshakeQueues() if queues is None else queues

    @asynccontextmanager
    async def handshake(self, peer: str, server_name: str) -> AsyncIterator[None]:  # noqa: ARG002
        async with self._queues.turn(peer):
            yield
        note_answered()


class NetDialer:
    """Connects over the machine's own network. Implements ``circumvent.api.NetworkDialer``.

    ``guard`` is asked about every address, after names were looked up; as if the user had named
    everything unless another one is given. Handshakes wait for their turn in ``queues``.
    """

    def __init__(
        self,
        tls: TlsEngine,
        buffers: SocketBuffers | None = None,
        guard: Guard = as_typed,
        queues: HandshakeQueues | None = None,
    ) -> None:
        self._guard = guard
        self._route = NetRoute(tls, queues)
        self._buffers = buffers or SocketBuffers()
        self._resolver = Resolver()
        self._answered = AddressCache()

    def guarded(self, guard: Guard) -> Self:
        """A dialer with another guard, over the same handshake queues, tickets and names."""
        other = copy.copy(self)
        other._guard = guard  # noqa: SLF001 - of our own kind
        return other

    async def tcp(self, host: str, port: int) -> PeekStream:
        """Connect to the first address of ``host`` that answers; raises DialError."""
        addresses = self._resolver.known(host) or await self._resolver.resolve(host)
        addresses = self._allowed(host, addresses, port)
        try:
            stream = await self._answered.connect((host, port), addresses, self._buffers)
        except DialError:
            self._resolver.doubt(host)
            raise
        stream.route = self._route
        return stream

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
            raise DialError(
                "leads to this machine or a private network, and nobody typed that address"
                " (for labs: --allow-private)",
                stage="guard",
            )
        return allowed

    def forget(self) -> None:
        """Names may lead elsewhere now, and a TLS ticket seen twice would link both places."""
        self._resolver.forget_all()
        self._answered.forget()
        self._route.tls.forget()
