"""TLS that ends at the relay itself: no second TLS is needed inside of it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from circumvent.api import (
    Account,
    ByteStream,
    Carrier,
    CarrierPipe,
    Dialer,
    HandshakeError,
    ProtocolError,
    ServerEntry,
    StreamResetError,
    TlsOptions,
    hookimpl,
)
from circumvent.layers.costs import TLS_COST
from circumvent.layers.exchange import receive, send
from circumvent.layers.tls.layer import TlsLayer
from circumvent.links.relay import RelayLink
from circumvent.links.relay_access import relay_link
from circumvent.wire.browser import socket_headers
from circumvent.wire.knock import NONCE_SIZE, Knock, KnockKind, seal_knock
from circumvent.wire.websocket_handshake import ClientUpgrade


class TlsCarrier(Carrier):
    """A knock bound to the TLS channel, then the session's bytes as they are."""

    name = "tls"
    cost = TLS_COST

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> CarrierPipe:
        link = relay_link(entry)
        connection = await dialer.tcp(link.host, link.port)
        stream = await TlsLayer(tls_options(link)).start(connection)
        try:
            binding = stream.channel_binding()
            await _knock(stream, account, link, binding)
        except BaseException as error:
            stream.abort()
            if isinstance(error, StreamResetError | ProtocolError):
                raise HandshakeError(str(error), stage="knock", errno=error.errno) from error
            raise
        return CarrierPipe(stream, binding)


def tls_options(link: RelayLink) -> TlsOptions:
    """TLS as a browser asks for it, but the key must be the relay's."""
    return TlsOptions(
        server_name=link.server_name or link.host,
        alpn=("http/1.1",),
        spki_sha256=link.pins,
        only_tls13=True,
    )


async def _knock(stream: ByteStream, account: Account, link: RelayLink, binding: bytes) -> None:
    """Raises HandshakeError when only a web site answers, StreamResetError, ProtocolError."""
    knock = Knock(KnockKind.TLS, 0, os.urandom(NONCE_SIZE))
    cookie = seal_knock(link.knock_key, knock, binding)
    name = link.server_name or link.host
    upgrade = ClientUpgrade(name, link.path, socket_headers(name, cookie))
    await send(stream, account, upgrade.request)
    leftover = None
    while leftover is None:
        leftover = upgrade.receive(await receive(stream, account))
    if leftover:
        raise ProtocolError("the relay spoke before it was spoken to", stage="knock")


@hookimpl
def circumvent_carriers() -> Sequence[Carrier]:
    """Offer TLS straight to the relay."""
    return (TlsCarrier(),)
