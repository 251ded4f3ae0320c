"""From a right knock to a pipe that is encrypted to the relay's own key."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from circumvent.api import CarrierPipe
from circumvent.api.streams import ByteStream
from circumvent.errors import HandshakeError, ProtocolError
from circumvent.layers.costs import INNER_TLS_COST
from circumvent.layers.exchange import send_flight
from circumvent.layers.tls.openssl import accept_tls
from circumvent.layers.websocket import accept_websocket
from circumvent.memory import Account
from circumvent.relay.admission import KnockedConnection
from circumvent.wire.knock import KnockKind
from circumvent.wire.websocket_handshake import upgrade_answer, upgrade_key

INNER_SECONDS = 30.0  # for TLS through a CDN, from a slow network


@asynccontextmanager
async def carrier(
    arrival: KnockedConnection, identity: ssl.SSLContext, account: Account
) -> AsyncIterator[CarrierPipe]:
    """Answer the knock; the pipe, and what it costs while the context lasts.

    Raises CircumventError.
    """
    if arrival.admission.knock.kind is KnockKind.TLS:
        yield await _straight(arrival)
        return
    account.charge(INNER_TLS_COST.stream)
    try:
        yield await _inside_websocket(arrival, identity)
    finally:
        account.discharge(INNER_TLS_COST.stream)


async def _straight(arrival: KnockedConnection) -> CarrierPipe:
    """TLS from the client ends here: there is nothing to put inside."""
    if arrival.admission.early:
        raise ProtocolError("a client did not wait for the answer to its knock", stage="knock")
    await send_flight(
        arrival.stream, upgrade_answer(upgrade_key(arrival.admission.head.headers.items()))
    )
    return CarrierPipe(arrival.stream, arrival.binding)


async def _inside_websocket(arrival: KnockedConnection, identity: ssl.SSLContext) -> CarrierPipe:
    admission = arrival.admission
    key = upgrade_key(admission.head.headers.items())
    return await inside(await accept_websocket(arrival.stream, key, admission.early), identity)


async def inside(pipe: ByteStream, identity: ssl.SSLContext) -> CarrierPipe:
    """The relay's own TLS inside of what somebody else carries; raises HandshakeError."""
    try:
        async with asyncio.timeout(INNER_SECONDS):
            inner = await accept_tls(pipe, identity)
    except TimeoutError as error:
        raise HandshakeError("a client took too long for TLS", stage="tls") from error
    return CarrierPipe(inner, inner.channel_binding())
