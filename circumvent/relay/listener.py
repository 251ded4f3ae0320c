"""The relay's one port: every connection is a visitor of the cover site until it has knocked."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from circumvent.errors import CircumventError
from circumvent.memory import Account
from circumvent.net.listener import Listener, listen
from circumvent.net.sockets import SocketBuffers
from circumvent.net.tcp import TcpStream
from circumvent.relay.admission import KnockedConnection
from circumvent.relay.connection import RelayConnection, RelayContext, visitor_cost
from circumvent.relay.eviction import choose_evicted
from circumvent.tasks import dismiss
from circumvent.wire.address import Destination

MAX_VISITORS = 500  # at the cover site at a time; carriers do not count

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RelayListenerOptions:
    """Where to listen, and how many visitors there may be at a time."""

    address: Destination
    max_visitors: int = MAX_VISITORS
    buffers: SocketBuffers = field(default_factory=SocketBuffers)


class RelayListener:
    """Owns one task for each connection.

    ``context`` serves visitors, and may be changed for the connections that come later.
    ``serve_knocked`` serves those that have knocked, until they end; the account ``carriers``
    pays for them.
    """

    def __init__(
        self,
        options: RelayListenerOptions,
        context: RelayContext,
        carriers: Account,
        serve_knocked: Callable[[KnockedConnection], Awaitable[None]],
    ) -> None:
        self.context = context
        self._options = options
        self._account = carriers
        self._serve_knocked = serve_knocked
        self.visitors: dict[RelayConnection, None] = {}  # in the order of arrival
        self.carriers: set[RelayConnection] = set()
        self._listener: Listener | None = None
        self.visits = 0  # connections so far
        self.knocks = 0  # how many of them have knocked

    def open(self) -> Destination:
        """Listen; returns the address with the port that was bound. Raises ConfigError."""
        wanted = self._options.address
        sock = listen(wanted.host, wanted.port, self._options.buffers)
        self._listener = Listener([sock], self._accept, lambda: True)
        self._listener.resume()
        return Destination(wanted.host, sock.getsockname()[1])

    def stop_accepting(self) -> None:
        """Accept no more connections; those that are open stay open."""
        if self._listener is not None:
            self._listener.close()

    async def aclose(self) -> None:
        """Stop accepting, and cut all connections."""
        self.stop_accepting()
        tasks = [connection.task for connection in (*self.visitors, *self.carriers)]
        await dismiss(tasks)

    def _accept(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.visits += 1
        connection = RelayConnection(TcpStream(sock), self.context)
        while len(self.visitors) >= self._visitor_limit or not connection.try_charge():
            if not self.visitors:
                connection.abort()
                return
            evicted = choose_evicted(self.visitors, connection.network, self._visitor_limit)
            del self.visitors[evicted]
            evicted.evict()
        connection.task = asyncio.get_running_loop().create_task(self._serve(connection))
        connection.task.add_done_callback(lambda _: self._remove(connection))
        self.visitors[connection] = None

    @property
    def _visitor_limit(self) -> int:
        """How many visitors the options and the memory allow."""
        affordable = self.context.account.limit // visitor_cost(self.context.site)
        return max(min(self._options.max_visitors, affordable), 1)

    async def _serve(self, connection: RelayConnection) -> None:
        try:
            knocked = await connection.serve()
            if knocked is not None:
                self.knocks += 1
                self.visitors.pop(connection, None)
                self.carriers.add(connection)
                connection.charge_to(self._account)
                await self._serve_knocked(knocked)
        except CircumventError as error:
            log.debug("a connection ends: %s", type(error).__name__)
        except Exception as error:  # noqa: BLE001 - one connection must not end the others
            log.error("a connection failed with %s", type(error).__name__)  # noqa: TRY400 - no values

    def _remove(self, connection: RelayConnection) -> None:
        self.visitors.pop(connection, None)
        self.carriers.discard(connection)
        connection.abort()
