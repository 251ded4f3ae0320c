"""Connects to the destinations that users ask for, where the egress policy allows it."""

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

CONNECT_SECONDS = 15.0  # browsers wait longer; a destination that takes this long is down
MAX_ADDRESSES = 8  # of one name that are tried


class EgressDialer:
    """Opens connections that ``policy`` allows; asks ``resolver`` once for each of them.

    It connects to the very address that the policy has judged. So a name whose address changes
    between the two gains nothing.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        resolver: NameResolver,
        buffers: SocketBuffers,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._buffers = buffers
        self._connect_seconds = connect_seconds

    async def open(self, destination: Destination, user: str) -> TcpStream:
        """Connect for ``user``; raises DestinationError."""
        if not self._policy.allows_port(destination.port):
            raise DestinationError(Reason.FORBIDDEN)
        try:
            async with asyncio.timeout(self._connect_seconds):
                addresses = await self._allowed_addresses(destination.host, user)
                return await connect_any(addresses, destination.port, self._buffers)
        except TimeoutError:
            raise DestinationError(Reason.TIMED_OUT) from None
        except DialError as error:
            raise DestinationError(Reason.of_errno(error.errno), errno=error.errno) from None

    async def _allowed_addresses(self, host: str, user: str) -> Sequence[str]:
        try:
            found: Sequence[str] = (plain(host),)
        except ValueError:
            found = tuple(map(plain, await self._resolver.resolve(host, user)))
        allowed = [address for address in found[:MAX_ADDRESSES] if self._policy.allows(address)]
        if not allowed:
            raise DestinationError(Reason.FORBIDDEN)
        return allowed
