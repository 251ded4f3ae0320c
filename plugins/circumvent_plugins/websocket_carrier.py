"""The websocket carrier: to a relay through whatever passes WebSockets on, a CDN or nginx.

TLS to the web server, a WebSocket whose request knocks, and inside of it TLS to the relay itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from circumvent.api import (
    Account,
    Carrier,
    CarrierPipe,
    Dialer,
    ServerEntry,
    hookimpl,
)
from circumvent.layers.costs import INNER_TLS_COST, TLS_COST
from circumvent.layers.tls.layer import TlsLayer
from circumvent.layers.websocket import WebSocketLayer
from circumvent.links.relay import RelayLink
from circumvent.links.relay_access import (
    inside_tls,
    knock,
    outer_tls,
    relay_link,
    web_name,
    web_place,
)
from circumvent.wire.browser import socket_headers
from circumvent.wire.knock import KnockKind


class WebSocketCarrier(Carrier):
    """Frames inside of TLS, as from a browser."""

    name = "websocket"
    cost = TLS_COST + INNER_TLS_COST

    async def connect(
        self,
        entry: ServerEntry,
        dialer: Dialer,
        account: Account,  # noqa: ARG002 - layers hold nothing
    ) -> CarrierPipe:
        link = relay_link(entry)
        place = web_place(link)
        dial = partial(dialer.tcp, place.host, place.port)
        secure = await TlsLayer(outer_tls(link)).dial(dial)
        return await inside_tls(await _websocket(link).start(secure), link)


def _websocket(link: RelayLink) -> WebSocketLayer:
    name = web_name(link)
    headers = socket_headers(name, knock(link, KnockKind.WEBSOCKET))
    return WebSocketLayer(name, link.path, tuple(headers))


@hookimpl
def circumvent_carriers() -> Sequence[Carrier]:
    """Offer the websocket carrier."""
    return (WebSocketCarrier(),)
