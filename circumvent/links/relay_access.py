"""How a carrier reaches a relay through the web: where to connect, how to knock, whom to trust.

Where a CDN or a web server ends TLS, the relay's own key is proved by a second TLS inside.
"""

from __future__ import annotations

import os
import time

from circumvent.api import CarrierPipe, ServerEntry, TlsOptions
from circumvent.api.streams import ByteStream
from circumvent.layers.tls.layer import TlsLayer
from circumvent.links.relay import RelayLink
from circumvent.wire.address import Destination
from circumvent.wire.knock import NONCE_SIZE, Knock, KnockKind, seal_knock


def relay_link(entry: ServerEntry) -> RelayLink:
    """The settings of an entry for a relay."""
    if not isinstance(entry.settings, RelayLink):
        raise TypeError("not an entry for a relay")
    return entry.settings


def web_place(link: RelayLink) -> Destination:
    """Where to connect."""
    return link.web or Destination(link.host, link.port)


def web_name(link: RelayLink) -> str:
    """The value of the Host header."""
    place = web_place(link)
    return link.web_host or (place.host if place.port == 443 else str(place))  # noqa: PLR2004 - https


def outer_tls(link: RelayLink) -> TlsOptions:
    """TLS to a CDN or web server, which proves its name, or to the relay, whose key is pinned."""
    name = link.server_name or web_place(link).host
    pins = () if link.web else link.pins
    return TlsOptions(name, alpn=("http/1.1",), spki_sha256=pins)


async def inside_tls(stream: ByteStream, link: RelayLink) -> CarrierPipe:
    """The relay's own TLS inside of ``stream``, which it owns; raises HandshakeError."""
    pin = (link.identity,)  # not that of the web certificate: a front may hold its key as well
    options = TlsOptions(link.host, spki_sha256=pin, send_name=False, only_tls13=True)
    secure = await TlsLayer(options).start(stream)
    return CarrierPipe(secure, secure.channel_binding())


def knock(link: RelayLink, kind: KnockKind, note: bytes = b"") -> str:
    """A fresh Cookie header's value; for connections on which TLS does not end at the relay."""
    fresh = Knock(kind, int(time.time()), os.urandom(NONCE_SIZE), note)
    return seal_knock(link.knock_key, fresh)
