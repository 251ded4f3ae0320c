"""The way out: from a destination that a user asked for to a connection, if it is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from circumvent.errors import DestinationError, DialError, Reason
from circumvent.net.addresses import plain
from circumvent.net.happy_eyeballs import connect_any
from circumvent.net.sockets import SocketBuffers
from circumvent.net.tcp import TcpStream
from circumvent.relay.egress.policy import EgressPolicy
from circumvent.relay.egress.resolver import NameResolver
from circumvent.wire.address import Destination

CONNECT_SECONDS = 15.0  # browsers wait longer; what takes this long is down
MAX_ADDRESSES = 8  # of one name that are tried


class EgressDialer:
    """Opens connections by ``policy``; ``resolver`` is asked once for each, and never behind it.

    A name that changes its address between the look and the connection gains nothing: what is
    connected to is the address that was looked at.
    """

    def __init__(
        self, policy: EgressPolicy, resolver: NameResolver, buffers: SocketBuffers
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._buffers = buffers

    async def open(self, destination: Destination, user: str) -> TcpStream:
        """A connection for ``user``; raises DestinationError."""
        if not self._policy.allows_port(destination.port):
            raise DestinationError(Reason.FORBIDDEN)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                addresses = await self._addresses(destination.host, user)
                return await connect_any(addresses, destination.port, self._buffers)
        except TimeoutError:
            raise DestinationError(Reason.TIMED_OUT) from None
        except DialError as error:
            raise DestinationError(Reason.of_errno(error.errno), errno=error.errno) from None

    async def _addresses(self, host: str, user: str) -> Sequence[str]:
        try:
            found: Sequence[str] = (plain(host),)
        except ValueError:
            found = tuple(map(plain, await self._resolver.resolve(host, user)))
        allowed = [address for address in found[:MAX_ADDRESSES] if self._policy.allows(address)]
        if not allowed:
            raise DestinationError(Reason.FORBIDDEN)
        return allowed
