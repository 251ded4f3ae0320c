"""The fronted carrier: to a relay through plain HTTP requests to a front that knows it.

The front (a CDN) is connected to under a name that a censor lets pass; the Host header names the
relay. TLS to the relay itself goes inside of the stream that the requests make.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from circumvent.api import (
    Account,
    ByteStream,
    Carrier,
    CarrierPipe,
    Cost,
    Dialer,
    DialerWrapper,
    HandshakeError,
    ServerEntry,
    StreamResetError,
    hookimpl,
)
from circumvent.http.client import http_client, http_cost
from circumvent.layers.costs import INNER_TLS_COST
from circumvent.links.relay import RelayLink
from circumvent.links.relay_access import inside_tls, outer_tls, relay_link, web_place
from circumvent.wire.address import Destination
from circumvent.wire.http_carrier import MAX_UPLOAD, UPLOADS_AT_ONCE
from circumvent_plugins.fronted_carrier.requests import Requests
from circumvent_plugins.fronted_carrier.stream import WINDOW, FrontedStream, FrontTimings

CONNECTIONS = 1 + UPLOADS_AT_ONCE
_BODIES = WINDOW + UPLOADS_AT_ONCE * MAX_UPLOAD
_MAX_REMEMBERED = 64  # fronts that hold answers back; nobody has more


class FrontedCarrier(Carrier):
    """Remembers which fronts hold answers back until they are complete."""

    name = "fronted"
    cost = http_cost(CONNECTIONS) + Cost(_BODIES, _BODIES) + INNER_TLS_COST

    def __init__(self, timings: FrontTimings | None = None) -> None:
        self._timings = timings or FrontTimings()
        self._slow_fronts: set[Destination] = set()

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> CarrierPipe:
        link = relay_link(entry)
        front = web_place(link)
        noting = NotingDialer(dialer)
        stream = FrontedStream(
            partial(connect_front, link, noting, account),
            is_short=front in self._slow_fronts,
            timings=self._timings,
        )
        try:
            await stream.opened()
            stream.route = noting.route.inside
            secured = await inside_tls(stream, link)
        except StreamResetError as error:
            raise HandshakeError(str(error), stage="carrier", errno=error.errno) from error
        except BaseException:
            stream.abort()
            raise
        if stream.is_short and len(self._slow_fronts) < _MAX_REMEMBERED:
            self._slow_fronts.add(front)
        return secured


class NotingDialer(DialerWrapper):
    """Notes the ``route`` of its connections, for the stream that is made of them."""

    route = ByteStream.route

    async def tcp(self, host: str, port: int) -> ByteStream:
        stream = await super().tcp(host, port)
        self.route = stream.route
        return stream


@asynccontextmanager
async def connect_front(
    link: RelayLink, dialer: Dialer, account: Account
) -> AsyncIterator[Requests]:
    """Requests to the relay through its front."""
    async with http_client(
        dialer,
        account,
        connections=CONNECTIONS,
        tls=lambda _: outer_tls(link),
    ) as session:
        session.headers.clear()  # each request brings all its headers, in a browser's order
        yield Requests(session, link)


@hookimpl
def circumvent_carriers() -> Sequence[Carrier]:
    """Offer the fronted carrier."""
    return (FrontedCarrier(),)
