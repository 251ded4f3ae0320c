"""The inbound: SOCKS5, SOCKS4a and HTTP on one local port, told apart by the first byte."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Coroutine
from contextlib import suppress

from circumvent.errors import BudgetError, CircumventError, ConfigError, ProtocolError
from circumvent.inbound.connection import ClientConnection, InboundContext, Outbound
from circumvent.inbound.options import InboundOptions
from circumvent.inbound.presence import SocketPresence
from circumvent.inbound.socks import serve_socks4, serve_socks5
from circumvent.memory import Account
from circumvent.net.listener import NO_SUCH_ADDRESS, Listener, defer_accept, listen
from circumvent.net.readiness import watch
from circumvent.net.sockets import delivered
from circumvent.net.tcp import TcpStream
from circumvent.wire import socks4, socks5

CHECKS = 4  # per limit: a client is cut at most a quarter late, and needs no timer of its own

log = logging.getLogger(__name__)


class Inbound:
    """Listens, and owns one task per client.

    ``account`` pays for handshakes and for HTTP that is not tunnelled. Raises BudgetError when
    not even the block for handshakes fits.
    """

    def __init__(self, outbound: Outbound, account: Account, options: InboundOptions) -> None:
        self._scratch = account.try_hold(options.max_head)
        if self._scratch is None:
            raise BudgetError("memory budget: no room for the local port", stage="memory")
        self._context = InboundContext(outbound, account, options, self._scratch.view)
        self._connections: set[ClientConnection] = set()
        self._listener: Listener | None = None
        self._check: asyncio.TimerHandle | None = None
        self._next_idle_check = 0.0
        self.addresses: tuple[tuple[str, int], ...] = ()

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def start(self) -> None:
        """Listen and accept clients; raises ConfigError when an address cannot be had."""
        options = self._context.options
        sockets = _listen(options)
        self.addresses = tuple(sock.getsockname()[:2] for sock in sockets)
        retry_seconds = options.timings.accept_again
        self._listener = Listener(sockets, self._accept, self._has_room, retry_seconds)
        self._listener.resume()
        self._plan_check()

    async def drain(self) -> None:
        """Accept no more clients and wait until those that are connected are done."""
        self._context.is_closing = True
        self._stop_accepting()
        for connection in self._connections:
            if connection.is_between_messages:
                connection.cancel()
        await self._all_done()

    async def aclose(self) -> None:
        """Close at once; clients see a reset."""
        self._stop_accepting()
        for connection in self._connections:
            connection.cancel()
        await self._all_done()
        if self._check is not None:
            self._check.cancel()
        if self._scratch is not None:
            self._scratch.release()
            self._scratch = None

    def _stop_accepting(self) -> None:
        if self._listener is not None:
            self._listener.close()

    async def _all_done(self) -> None:
        tasks = [connection.task for connection in self._connections if connection.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    def _has_room(self) -> bool:
        return len(self._connections) < self._context.options.max_clients

    def _accept(self, sock: socket.socket) -> None:
        connection = _connection(sock, self._context)
        connection.task = asyncio.get_running_loop().create_task(_serve(connection))
        connection.task.add_done_callback(lambda task: self._on_done(connection, task))
        self._connections.add(connection)

    def _on_done(self, connection: ClientConnection, task: asyncio.Task[None]) -> None:
        self._connections.discard(connection)
        if self._listener is not None:
            self._listener.resume()
        if task.cancelled():
            connection.stream.abort()
        elif (error := task.exception()) is not None:
            connection.stream.abort()
            log.error("inbound: a connection failed with %s", type(error).__name__)

    def _plan_check(self) -> None:
        loop, options = asyncio.get_running_loop(), self._context.options
        shortest = min(options.handshake_seconds, options.idle_seconds)
        delay = min(options.timings.look, shortest / CHECKS)
        self._check = loop.call_later(delay, self._cut_late_and_absent)

    def _cut_late_and_absent(self) -> None:
        now, longest = time.monotonic(), self._context.options.idle_seconds
        counts_idle = now >= self._next_idle_check
        if counts_idle:
            self._next_idle_check = now + longest / CHECKS
        for connection in self._connections:
            is_idle = counts_idle and connection.idle_seconds() > longest
            if is_idle or connection.is_late(now) or connection.has_left(now):
                connection.cancel()
        self._plan_check()


def _connection(sock: socket.socket, context: InboundContext) -> ClientConnection:
    sock.setblocking(False)
    ready = watch(sock.fileno())
    stream = TcpStream(sock, ready)
    presence = SocketPresence(sock, ready, stream, context.options.timings)
    return ClientConnection(stream, presence, context)


async def _serve(connection: ClientConnection) -> None:
    connection.set_deadline(connection.context.options.handshake_seconds)
    try:
        await (await _handler(connection))
    except CircumventError as error:  # too late or too strange for a reply: the client is reset
        log.debug("inbound: a client is cut: %s", type(error).__name__)
        await delivered(connection.stream)
        connection.stream.abort()
    else:
        await connection.stream.aclose()


async def _handler(connection: ClientConnection) -> Coroutine[None, None, None]:
    """The coroutine that serves this client; returned, so that no frame of this one stays."""
    opening = await connection.read_message(_parse_opening, socks5.MAX_MESSAGE)
    if isinstance(opening, socks5.Greeting):
        return serve_socks5(connection, opening)
    if opening == socks4.VERSION:
        return serve_socks4(connection)
    # Imported late: it costs memory that SOCKS clients never need.
    from circumvent.inbound.web import serve_http  # noqa: PLC0415

    return serve_http(connection)


def _parse_opening(data: bytes) -> tuple[socks5.Greeting | int, int] | None:
    """The SOCKS5 greeting, or the first byte of anything else, which stays unread."""
    if data[0] == socks5.VERSION:
        return socks5.parse_greeting(data)
    if data[0] != socks4.VERSION and not (data[:1].isalpha() or data[:1] in b"\r\n"):
        raise ProtocolError("neither SOCKS nor HTTP", stage="handshake")
    return data[0], 0


def _listen(options: InboundOptions) -> list[socket.socket]:
    """All listening sockets, on one port; none stays open when one of them fails.

    For localhost, a family that this machine lacks is left out: IPv6 is often switched off.
    """
    sockets: list[socket.socket] = []
    lacking: ConfigError | None = None
    port = options.port
    try:
        for address in options.addresses:
            try:
                sockets.append(listen(address, port, options.buffers))
            except ConfigError as error:
                if error.errno not in NO_SUCH_ADDRESS:
                    raise
                lacking = error
                continue
            with suppress(OSError):  # it only saves work, and not every system knows it
                defer_accept(sockets[-1])
            port = sockets[0].getsockname()[1]
        if lacking is not None and not sockets:
            raise lacking
    except CircumventError:
        for sock in sockets:
            sock.close()
        raise
    if lacking is not None:
        log.warning("only a part of %s is served: %s", options.host, lacking)
    return sockets
