"""The front door: SOCKS5, SOCKS4a and HTTP on one port, told apart by the first byte."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Coroutine
from contextlib import suppress

from circumvent.errors import BudgetError, CircumventError, ConfigError, ProtocolError
from circumvent.inbound.connection import ClientConnection, InboundContext, Outbound
from circumvent.inbound.kernel import speak_first
from circumvent.inbound.options import InboundOptions
from circumvent.inbound.socks import serve_socks4, serve_socks5
from circumvent.memory import Account
from circumvent.net.listener import NO_SUCH_ADDRESS, Listener, listen
from circumvent.net.sockets import delivered
from circumvent.wire import socks4, socks5

CHECKS = 4  # per limit: a client is cut at most a quarter late, and needs no timer of its own
LOOK_SECONDS = 0.5  # how late it is noticed that a client left

log = logging.getLogger(__name__)


class Inbound:
    """Listens, and owns one task per client.

    ``account`` pays for handshakes and for HTTP that is not tunnelled. Raises BudgetError when
    not even the block for handshakes fits.
    """

    def __init__(self, dispatcher: Outbound, account: Account, options: InboundOptions) -> None:
        self._scratch = account.try_hold(options.max_head)
        if self._scratch is None:
            raise BudgetError("memory budget: no room for the front door", stage="memory")
        self._house = InboundContext(dispatcher, account, options, self._scratch.view)
        self._visits: set[ClientConnection] = set()
        self._listener: Listener | None = None
        self._check: asyncio.TimerHandle | None = None
        self._next_idle_check = 0.0
        self.addresses: tuple[tuple[str, int], ...] = ()

    @property
    def clients(self) -> int:
        """How many clients are inside."""
        return len(self._visits)

    def start(self) -> None:
        """Open the door; raises ConfigError when an address cannot be had."""
        sockets = _listen(self._house.options)
        self.addresses = tuple(sock.getsockname()[:2] for sock in sockets)
        self._listener = Listener(sockets, self._welcome, self._has_room)
        self._listener.resume()
        self._plan_check()

    async def drain(self) -> None:
        """Accept no more clients and wait until those inside are done."""
        self._house.closing = True
        self._accept_no_more()
        for visit in self._visits:
            if visit.resting:
                visit.cut()
        await self._everybody_left()

    async def aclose(self) -> None:
        """Close at once; clients see a reset."""
        self._accept_no_more()
        for visit in self._visits:
            visit.cut()
        await self._everybody_left()
        if self._check is not None:
            self._check.cancel()
        if self._scratch is not None:
            self._scratch.release()
            self._scratch = None

    def _accept_no_more(self) -> None:
        if self._listener is not None:
            self._listener.close()

    async def _everybody_left(self) -> None:
        tasks = [visit.task for visit in self._visits if visit.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    def _has_room(self) -> bool:
        return len(self._visits) < self._house.options.max_clients

    def _welcome(self, sock: socket.socket) -> None:
        visit = ClientConnection(sock, self._house)
        visit.task = asyncio.get_running_loop().create_task(_serve(visit))
        visit.task.add_done_callback(lambda task: self._see_off(visit, task))
        self._visits.add(visit)

    def _see_off(self, visit: ClientConnection, task: asyncio.Task[None]) -> None:
        self._visits.discard(visit)
        if self._listener is not None:
            self._listener.resume()
        if task.cancelled():
            visit.stream.abort()
        elif (error := task.exception()) is not None:
            visit.stream.abort()
            log.error("front door: a visit failed with %s", type(error).__name__)

    def _plan_check(self) -> None:
        loop, options = asyncio.get_running_loop(), self._house.options
        delay = min(LOOK_SECONDS, options.handshake_seconds / CHECKS, options.idle_seconds / CHECKS)
        self._check = loop.call_later(delay, self._cut_late_and_absent)

    def _cut_late_and_absent(self) -> None:
        now, longest = time.monotonic(), self._house.options.idle_seconds
        counts_idle = now >= self._next_idle_check
        if counts_idle:
            self._next_idle_check = now + longest / CHECKS
        for visit in self._visits:
            is_idle = counts_idle and visit.idle_seconds() > longest
            if is_idle or visit.is_late(now) or visit.has_left(now):
                visit.cut()
        self._plan_check()


async def _serve(visit: ClientConnection) -> None:
    visit.hurry(visit.house.options.handshake_seconds)
    try:
        await (await _handler(visit))
    except CircumventError as error:  # too late or too strange for a reply: the client is reset
        log.debug("front door: a client is cut: %s", type(error).__name__)
        await delivered(visit.stream)
        visit.stream.abort()
    else:
        await visit.stream.aclose()


async def _handler(visit: ClientConnection) -> Coroutine[None, None, None]:
    """What serves this client; handed back, so that no frame of this one stays behind."""
    opening = await visit.take(_parse_opening, socks5.MAX_MESSAGE)
    if isinstance(opening, socks5.Greeting):
        return serve_socks5(visit, opening)
    if opening == socks4.VERSION:
        return serve_socks4(visit)
    # Imported late: it costs memory that SOCKS clients never need.
    from circumvent.inbound.web import serve_http  # noqa: PLC0415

    return serve_http(visit)


def _parse_opening(data: bytes) -> tuple[socks5.Greeting | int, int] | None:
    """The SOCKS5 greeting, or the first byte of anything else, left unread."""
    if data[0] == socks5.VERSION:
        return socks5.parse_greeting(data)
    if data[0] != socks4.VERSION and not (data[:1].isalpha() or data[:1] in b"\r\n"):
        raise ProtocolError("neither SOCKS nor HTTP", stage="handshake")
    return data[0], 0


def _listen(options: InboundOptions) -> list[socket.socket]:
    """All listening sockets, on one port; none stays open when one of them fails.

    Of localhost, what this machine lacks is left out: IPv6 is often switched off.
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
                speak_first(sockets[-1])
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
