"""Answers a right knock with a carrier: a pipe that is encrypted to the relay's own key."""

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

INNER_SECONDS = 30.0  # for the inner TLS handshake: through a CDN, from a slow network


@asynccontextmanager
async def open_carrier(
    knocked: KnockedConnection, identity: ssl.SSLContext, account: Account
) -> AsyncIterator[CarrierPipe]:
    """Answer the knock; ``account`` pays for the carrier while the context lasts.

    Raises CircumventError.
    """
    if knocked.admission.knock.kind is KnockKind.TLS:
        yield await _open_direct(knocked)
        return
    account.charge(INNER_TLS_COST.stream)
    try:
        yield await _open_websocket(knocked, identity)
    finally:
        account.discharge(INNER_TLS_COST.stream)


async def _open_direct(knocked: KnockedConnection) -> CarrierPipe:
    """The client's TLS ends at this relay, so no second TLS is needed inside of it."""
    if knocked.admission.early:
        raise ProtocolError("a client did not wait for the answer to its knock", stage="knock")
    key = upgrade_key(knocked.admission.head.headers.items())
    await send_flight(knocked.stream, upgrade_answer(key))
    return CarrierPipe(knocked.stream, knocked.binding)


async def _open_websocket(knocked: KnockedConnection, identity: ssl.SSLContext) -> CarrierPipe:
    admission = knocked.admission
    key = upgrade_key(admission.head.headers.items())
    pipe = await accept_websocket(knocked.stream, key, admission.early)
    return await accept_inner_tls(pipe, identity)


async def accept_inner_tls(pipe: ByteStream, identity: ssl.SSLContext) -> CarrierPipe:
    """The relay's own TLS inside of ``pipe``, which others carry; raises HandshakeError."""
    try:
        async with asyncio.timeout(INNER_SECONDS):
            inner = await accept_tls(pipe, identity)
    except TimeoutError as error:
        raise HandshakeError("a client took too long for TLS", stage="tls") from error
    return CarrierPipe(inner, inner.channel_binding())
