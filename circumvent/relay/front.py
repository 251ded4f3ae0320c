"""The relay's one port: TLS, then the cover site, or a carrier for whoever knocked."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from circumvent.api.costs import TLS_COST
from circumvent.api.streams import ByteStream, SecureStream
from circumvent.errors import BudgetError, CircumventError
from circumvent.memory import Account
from circumvent.net import tcp
from circumvent.net.listener import Listener, listen
from circumvent.net.sockets import SocketBuffers
from circumvent.net.tcp import TcpStream
from circumvent.net.tls import accept_tls
from circumvent.relay.doorkeeper import Doorkeeper
from circumvent.relay.passage import Admission, Passage
from circumvent.wire.address import Destination

HANDSHAKE_SECONDS = 60.0  # for TLS; what asyncio's own and nginx allow
MAX_VISITORS = 1000  # with the cover site; carriers do not count

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A connection whose other end knocked; ``binding`` is empty where TLS ended before us."""

    stream: ByteStream
    binding: bytes
    admission: Admission


@dataclass(slots=True)
class FrontOptions:
    """All but ``address`` may be replaced while the front is open: who comes later is served so.

    ``context`` is None where a web server in front of us ends TLS.
    """

    address: Destination
    site: Destination
    context: ssl.SSLContext | None
    doorkeeper: Doorkeeper
    max_visitors: int = MAX_VISITORS
    buffers: SocketBuffers = field(default_factory=SocketBuffers)


class Front:
    """Owns one task for each connection; ``welcome`` serves those that knocked, to their end."""

    def __init__(
        self,
        options: FrontOptions,
        account: Account,
        welcome: Callable[[Arrival], Awaitable[None]],
    ) -> None:
        self.options = options
        self._account = account
        self._welcome = welcome
        self.visitors: set[Guest] = set()
        self.carriers: set[Guest] = set()
        self._listener: Listener | None = None
        self.visits = 0  # so far, and how many of them knocked
        self.knocks = 0

    def open(self) -> Destination:
        """Listen; the address, with the port that was had. Raises ConfigError."""
        wanted = self.options.address
        sock = listen(wanted.host, wanted.port, self.options.buffers)
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
        tasks = [guest.task for guest in self.visitors | self.carriers]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _let_in(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if len(self.visitors) >= self.options.max_visitors:  # as web servers do
            idlest = min(self.visitors, key=Guest.active_at)
            self.visitors.discard(idlest)
            idlest.task.cancel()
        self.visits += 1
        guest = Guest(TcpStream(sock), self.options, self._account)
        guest.task = asyncio.get_running_loop().create_task(self._serve(guest))
        guest.task.add_done_callback(lambda _: self._see_off(guest))
        self.visitors.add(guest)

    async def _serve(self, guest: Guest) -> None:
        try:
            arrival = await guest.visit()
            if arrival is not None:
                self.knocks += 1
                self.visitors.discard(guest)
                self.carriers.add(guest)
                await self._welcome(arrival)
        except CircumventError as error:
            log.debug("a connection ends: %s", type(error).__name__)
        except Exception as error:  # noqa: BLE001 - one visitor must not end the others
            log.error("a connection failed with %s", type(error).__name__)  # noqa: TRY400 - no values

    def _see_off(self, guest: Guest) -> None:
        self.visitors.discard(guest)
        self.carriers.discard(guest)
        guest.leave()


class Guest:
    """One connection, from the first byte until it is admitted or has left."""

    __slots__ = ("_account", "_charged", "_options", "_passage", "_stream", "task")

    task: asyncio.Task[None]

    def __init__(self, stream: ByteStream, options: FrontOptions, account: Account) -> None:
        self._stream = stream
        self._options = options
        self._account = account
        self._passage: Passage | None = None
        self._charged = 0

    def active_at(self) -> float:
        """When the last byte passed; who is still shaking hands counts as idle for ever."""
        return 0.0 if self._passage is None else self._passage.active_at

    async def visit(self) -> Arrival | None:
        """Show the cover site; raises CircumventError."""
        if self._options.context is not None:
            await self._shake_hands(self._options.context)
        binding = self._stream.channel_binding() if isinstance(self._stream, SecureStream) else b""
        doorkeeper, where = self._options.doorkeeper, self._options.site
        site = await tcp.connect(where.host, where.port, self._options.buffers)
        self._passage = Passage(
            self._stream, site, self._account, lambda head: doorkeeper.admit(head, binding)
        )
        admission = await self._passage.run()
        if admission is None:
            await self._stream.aclose()
            return None
        return Arrival(self._stream, binding, admission)

    def leave(self) -> None:
        """Cut what is still open, and give back what was charged."""
        self._stream.abort()
        if self._charged:
            self._account.discharge(self._charged)
            self._charged = 0

    async def _shake_hands(self, context: ssl.SSLContext) -> None:
        self._charge(TLS_COST.dial)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                self._stream = await accept_tls(self._stream, context)
        except TimeoutError as error:
            raise BudgetError("a visitor took too long for TLS", stage="tls") from error
        self._account.discharge(TLS_COST.dial - TLS_COST.stream)
        self._charged = TLS_COST.stream

    def _charge(self, size: int) -> None:
        self._account.charge(size)
        self._charged = size
