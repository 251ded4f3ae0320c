"""Turns knocked connections into carriers of sessions, and bounds those that are pending."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

from circumvent.api.streams import ByteStream
from circumvent.memory import Account
from circumvent.relay.admission import KnockedConnection
from circumvent.relay.carriers.http_stream import HttpCarrierStream
from circumvent.relay.carriers.http_table import HttpCarrierTable
from circumvent.relay.carriers.pending import PendingCarriers
from circumvent.relay.carriers.pipes import accept_inner_tls, open_carrier
from circumvent.wire.knock import Knock, KnockKind

# (stream, channel binding, what to call once the user is authenticated); owns the stream
ServeCarrier = Callable[[ByteStream, bytes, Callable[[], None]], Awaitable[None]]


class CarrierServer:
    """``serve_carrier`` joins each carrier to a session; ``account`` pays for the carriers.

    ``identity`` is the TLS context of the relay's own key; it may be replaced for the carriers
    that come later. ``memory`` is the relay's budget in bytes.
    """

    def __init__(
        self, account: Account, memory: int, identity: ssl.SSLContext, serve_carrier: ServeCarrier
    ) -> None:
        self.identity = identity
        self.pending = PendingCarriers(memory)
        self._account = account
        self._serve_carrier = serve_carrier
        self._http = HttpCarrierTable(account, self._serve_http)

    def expects(self, knock: Knock) -> bool:
        """Whether a request with this knock can belong to a carrier."""
        return self._http.expects(knock)

    async def serve(self, knocked: KnockedConnection) -> None:
        """Serve a connection until its carrier or its request ends; raises CircumventError."""
        with self.pending.place(knocked.network) as place:
            if knocked.admission.knock.kind in (KnockKind.DOWNLOAD, KnockKind.UPLOAD):
                await self._http.serve(knocked, place)
                return
            async with open_carrier(knocked, self.identity, self._account) as carrier:
                await self._serve_carrier(carrier.stream, carrier.binding, place.release)

    async def aclose(self) -> None:
        """End all HTTP carriers; the others end with their connections."""
        await self._http.aclose()

    async def _serve_http(self, stream: HttpCarrierStream) -> None:
        with self.pending.place(stream.network) as place:
            stream.on_authenticated(place.release)
            carrier = await accept_inner_tls(stream, self.identity)
            await self._serve_carrier(carrier.stream, carrier.binding, stream.set_authenticated)
