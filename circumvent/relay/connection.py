"""One connection to the relay's port: a visitor of the cover site until it has knocked."""

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
from circumvent.relay.cover.site import CoverSite, server_name
from circumvent.relay.knocks import KnockVerifier

HANDSHAKE_SECONDS = 60.0  # as long as asyncio's own TLS and nginx wait


@dataclass(slots=True)
class RelayContext:
    """What new connections are served with.

    ``tls`` is None where a web server in front of the relay ends TLS. ``account`` pays for
    visitors. ``handshake_seconds`` is how long a visitor may take for TLS.
    """

    site: CoverSite
    tls: ssl.SSLContext | None
    verifier: KnockVerifier
    account: Account
    handshake_seconds: float = HANDSHAKE_SECONDS


def visitor_cost(site: CoverSite) -> int:
    """The most bytes that a visitor costs outside of the arena."""
    return max(TLS_COST.dial, TLS_COST.stream + site.cost)


class RelayConnection:
    """Serves one connection; ``task`` runs ``serve``, ``network`` is that of the other end."""

    __slots__ = ("_account", "_charged", "_context", "_proxy", "_stream", "_tcp", "network", "task")

    task: asyncio.Task[None]

    def __init__(self, stream: TcpStream, context: RelayContext) -> None:
        self.network = network_of(stream.peer)
        self._tcp = stream
        self._stream: ByteStream = stream
        self._context = context
        self._account = context.account
        self._proxy: CoverProxy | None = None
        self._charged = 0

    @property
    def served_at(self) -> float:
        """When the cover site last sent it anything; 0 before that, whatever the visitor sent."""
        return 0.0 if self._proxy is None else self._proxy.served_at

    def try_charge(self) -> bool:
        """Charge the cost of a visitor; False when there is no memory for one."""
        cost = visitor_cost(self._context.site)
        if self._account.try_charge(cost):
            self._charged = cost
        return bool(self._charged)

    def evict(self) -> None:
        """Give back its memory at once, and end its task."""
        self._set_charge(0)
        self.task.cancel()

    async def serve(self) -> KnockedConnection | None:
        """Show the cover site until a right knock; None when the connection ended without one.

        Raises CircumventError.
        """
        context = self._context
        if context.tls is not None and not await self._accept_tls(context.tls):
            await self._stream.aclose()
            return None
        binding = self._stream.channel_binding() if isinstance(self._stream, SecureStream) else b""
        self._proxy = CoverProxy(
            self._stream,
            await context.site.connect(),
            self._account,
            lambda head: context.verifier.admit(head, binding),
        )
        admission = await self._proxy.run()
        if admission is None:
            await self._stream.aclose()
            return None
        return KnockedConnection(self._stream, self.network, binding, admission)

    def charge_to(self, account: Account) -> None:
        """Let ``account`` pay from now on: this is no visitor any more; raises BudgetError."""
        self._set_charge(0)
        self._account = account
        self._set_charge(TLS_COST.stream)

    def abort(self) -> None:
        """Cut the connection if it is still open, and give back what was charged."""
        self._stream.abort()
        self._set_charge(0)

    def _set_charge(self, size: int) -> None:
        self._account.discharge(self._charged)
        self._charged = 0
        if size:
            self._account.charge(size)
            self._charged = size

    async def _accept_tls(self, tls: ssl.SSLContext) -> bool:
        """Whether there is TLS now; False when what came was answered without it, as nginx does."""
        try:
            async with asyncio.timeout(self._context.handshake_seconds):
                data, offered = await nginx.peek_hello(self._tcp, self._account)
                if nginx.is_tls(data) and not nginx.asks_other_protocols(offered):
                    self._stream = await accept_tls(self._tcp, tls)
                    return True
                name = await server_name(self._context.site, self._account)
                if not name.startswith(nginx.NAME):
                    self._stream = await accept_tls(self._tcp, tls)
                    return True
                if nginx.is_tls(data):
                    await nginx.refuse_protocol(self._tcp, self._account, data, tls)
                    return False
        except TimeoutError as error:
            raise HandshakeError("a visitor took too long for TLS", stage="tls") from error
        site = await self._context.site.connect()
        await nginx.answer_plain(self._tcp, site, self._account, name)
        return False
