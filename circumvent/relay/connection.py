"""One connection to the relay's port, from the first byte until it is admitted or has left."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

from circumvent.api.streams import ByteStream, SecureStream
from circumvent.errors import HandshakeError
from circumvent.layers.costs import TLS_COST
from circumvent.layers.tls.openssl import accept_tls
from circumvent.memory import Account
from circumvent.net.neighbourhood import network_of
from circumvent.net.tcp import TcpStream
from circumvent.relay.admission import KnockedConnection
from circumvent.relay.cover import nginx
from circumvent.relay.cover.proxy import CoverProxy
from circumvent.relay.cover.site import CoverSite, name_of
from circumvent.relay.knocks import KnockVerifier

HANDSHAKE_SECONDS = 60.0  # for TLS; what asyncio's own and nginx allow


@dataclass(slots=True)
class RelayContext:
    """What visitors meet. ``context`` is None where a web server in front of us ends TLS."""

    site: CoverSite
    context: ssl.SSLContext | None
    doorkeeper: KnockVerifier
    account: Account


def visitor_cost(site: CoverSite) -> int:
    """The most that a visitor costs outside of the arena."""
    return max(TLS_COST.dial, TLS_COST.stream + site.cost)


class RelayConnection:
    """``task`` is the one in which ``visit`` runs, ``network`` that of its other end."""

    __slots__ = ("_account", "_charged", "_house", "_passage", "_stream", "_tcp", "network", "task")

    task: asyncio.Task[None]

    def __init__(self, stream: TcpStream, house: RelayContext) -> None:
        self.network = network_of(stream.peer)
        self._tcp = stream
        self._stream: ByteStream = stream
        self._house = house
        self._account = house.account
        self._passage: CoverProxy | None = None
        self._charged = 0

    @property
    def served_at(self) -> float:
        """When the cover site said something last, 0 while it has not: to drip bytes is nothing."""
        return 0.0 if self._passage is None else self._passage.served_at

    def can_enter(self) -> bool:
        """Whether there is memory for it; it is charged then."""
        cost = visitor_cost(self._house.site)
        if self._account.try_charge(cost):
            self._charged = cost
        return bool(self._charged)

    def see_off(self) -> None:
        """Its place and its memory are somebody else's from now on."""
        self._pay(0)
        self.task.cancel()

    async def visit(self) -> KnockedConnection | None:
        """Show the cover site; raises CircumventError."""
        house = self._house
        if house.context is not None and not await self._shake_hands(house.context):
            await self._stream.aclose()
            return None
        binding = self._stream.channel_binding() if isinstance(self._stream, SecureStream) else b""
        self._passage = CoverProxy(
            self._stream,
            await house.site.connect(),
            self._account,
            lambda head: house.doorkeeper.admit(head, binding),
        )
        admission = await self._passage.run()
        if admission is None:
            await self._stream.aclose()
            return None
        return KnockedConnection(self._stream, self.network, binding, admission)

    def move_to(self, account: Account) -> None:
        """It is no visitor any more: ``account`` pays for its connection; raises BudgetError."""
        self._pay(0)
        self._account = account
        self._pay(TLS_COST.stream)

    def leave(self) -> None:
        """Cut what is still open, and give back what was charged."""
        self._stream.abort()
        self._pay(0)

    def _pay(self, size: int) -> None:
        self._account.discharge(self._charged)
        self._charged = 0
        if size:
            self._account.charge(size)
            self._charged = size

    async def _shake_hands(self, context: ssl.SSLContext) -> bool:
        """Whether there is TLS now; the site has answered whoever wanted something else."""
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                words, offered = await nginx.first_words(self._tcp, self._account)
                if nginx.is_tls(words) and not nginx.is_for_another(offered):
                    self._stream = await accept_tls(self._tcp, context)
                    return True
                name = await name_of(self._house.site, self._account)
                if not name.startswith(nginx.NAME):
                    self._stream = await accept_tls(self._tcp, context)
                    return True
                if nginx.is_tls(words):
                    await nginx.refuse_protocol(self._tcp, self._account, words, context)
                    return False
        except TimeoutError as error:
            raise HandshakeError("a visitor took too long for TLS", stage="tls") from error
        site = await self._house.site.connect()
        await nginx.answer_plain(self._tcp, site, self._account, name)
        return False
