"""The relay's one port: who comes in is a visitor of the cover site until the right knock."""

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
from circumvent.relay.connection import (
    RelayConnection,
    RelayContext,
    visitor_cost,
)
from circumvent.relay.eviction import first_to_leave
from circumvent.tasks import dismiss
from circumvent.wire.address import Destination

MAX_VISITORS = 500  # with the cover site; carriers do not count

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RelayListenerOptions:
    """Where to listen, and how many may be at the cover site."""

    address: Destination
    max_visitors: int = MAX_VISITORS
    buffers: SocketBuffers = field(default_factory=SocketBuffers)


class RelayListener:
    """Owns one task for each connection; ``welcome`` serves those that knocked, to their end.

    ``house`` is what visitors meet; it may be changed for those who come later. ``carriers`` pays
    for who was let in.
    """

    def __init__(
        self,
        options: RelayListenerOptions,
        house: RelayContext,
        carriers: Account,
        welcome: Callable[[KnockedConnection], Awaitable[None]],
    ) -> None:
        self.house = house
        self._options = options
        self._account = carriers
        self._welcome = welcome
        self.visitors: dict[RelayConnection, None] = {}  # in the order of their coming
        self.carriers: set[RelayConnection] = set()
        self._listener: Listener | None = None
        self.visits = 0  # so far, and how many of them knocked
        self.knocks = 0

    def open(self) -> Destination:
        """Listen; the address, with the port that was had. Raises ConfigError."""
        wanted = self._options.address
        sock = listen(wanted.host, wanted.port, self._options.buffers)
        self._listener = Listener([sock], self._let_in, lambda: True)
        self._listener.resume()
        return Destination(wanted.host, sock.getsockname()[1])

    def accept_no_more(self) -> None:
        """Nobody else comes in; those inside stay."""
        if self._listener is not None:
            self._listener.close()

    async def aclose(self) -> None:
        """Close at once."""
        self.accept_no_more()
        tasks = [guest.task for guest in (*self.visitors, *self.carriers)]
        await dismiss(tasks)

    def _let_in(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.visits += 1
        guest = RelayConnection(TcpStream(sock), self.house)
        while len(self.visitors) >= self._most or not guest.can_enter():
            if not self.visitors:
                guest.leave()
                return
            leaving = first_to_leave(self.visitors, guest.network, self._most)
            del self.visitors[leaving]
            leaving.see_off()
        guest.task = asyncio.get_running_loop().create_task(self._serve(guest))
        guest.task.add_done_callback(lambda _: self._see_off(guest))
        self.visitors[guest] = None

    @property
    def _most(self) -> int:
        """Visitors, at most: what was said, or what memory allows."""
        affordable = self.house.account.limit // visitor_cost(self.house.site)
        return max(min(self._options.max_visitors, affordable), 1)

    async def _serve(self, guest: RelayConnection) -> None:
        try:
            arrival = await guest.visit()
            if arrival is not None:
                self.knocks += 1
                self.visitors.pop(guest, None)
                self.carriers.add(guest)
                guest.move_to(self._account)
                await self._welcome(arrival)
        except CircumventError as error:
            log.debug("a connection ends: %s", type(error).__name__)
        except Exception as error:  # noqa: BLE001 - one visitor must not end the others
            log.error("a connection failed with %s", type(error).__name__)  # noqa: TRY400 - no values

    def _see_off(self, guest: RelayConnection) -> None:
        self.visitors.pop(guest, None)
        self.carriers.discard(guest)
        guest.leave()
