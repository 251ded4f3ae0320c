"""Trojan: a request header inside TLS; the server sends no reply of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from circumvent.api import (
    Account,
    ByteStream,
    Dialer,
    HeaderStream,
    LinkError,
    Privacy,
    ServerEntry,
    Transport,
    Tunnel,
    hookimpl,
)
from circumvent.layers.costs import TLS_COST
from circumvent.layers.tls.layer import TlsLayer
from circumvent.links.query import LinkQuery
from circumvent.links.tls_settings import TlsLink, take_tls, tls_query, tls_warnings
from circumvent.links.uri import ShareLink, format_link, parse_link
from circumvent.wire.address import Destination
from circumvent.wire.request_header import encode_request

_CRLF = b"\r\n"
_TCP = b"\x01"


@dataclass(frozen=True, slots=True)
class TrojanSettings:
    """What a Trojan link holds besides the address of the server."""

    password: str = field(repr=False)
    tls: TlsLink


class Trojan(Transport):
    """Trojan over TLS over TCP."""

    name = "trojan"
    schemes = ("trojan",)
    cost = TLS_COST

    def parse(self, link: str) -> ServerEntry:
        parts = parse_link(link)
        settings = _parse_settings(parts)
        return ServerEntry(
            transport=self.name,
            host=parts.host,
            port=parts.port,
            name=parts.name,
            link=format_link(_canonical(parts, settings)),
            settings=settings,
        )

    def privacy(self, entry: ServerEntry) -> Privacy:
        return Privacy.ENCRYPTED if _settings(entry).tls.authenticated else Privacy.PLAIN

    def warnings(self, entry: ServerEntry) -> Sequence[str]:
        return tls_warnings(_settings(entry).tls)

    async def connect(
        self,
        entry: ServerEntry,
        dialer: Dialer,
        account: Account,  # noqa: ARG002 - a tunnel without multiplexing holds nothing itself
    ) -> Tunnel:
        return TrojanTunnel(entry, dialer)


class TrojanTunnel(Tunnel):
    """A connection of its own for every stream."""

    def __init__(self, entry: ServerEntry, dialer: Dialer) -> None:
        self._entry = entry
        self._settings = _settings(entry)
        self._dialer = dialer

    async def open(self, destination: Destination) -> ByteStream:
        header = encode_request(self._request, destination)
        connection = await self._dialer.tcp(self._entry.host, self._entry.port)
        stream = await TlsLayer(self._settings.tls.options).start(connection)
        return HeaderStream(stream, header)

    def _request(self, destination: Destination) -> bytes:
        return request_header(self._settings.password, destination)


def request_header(password: str, destination: Destination) -> bytes:
    """``hex(SHA224(password)) CRLF 01 ATYP address port CRLF``; ValueError for a bad name."""
    digest = hashlib.sha224(password.encode()).hexdigest().encode()
    return digest + _CRLF + _TCP + destination.encode() + _CRLF


def _parse_settings(parts: ShareLink) -> TrojanSettings:
    if parts.scheme not in Trojan.schemes:
        raise LinkError("scheme: a Trojan link starts with trojan://")
    if not parts.user:
        raise LinkError("user: the password is missing; write it before '@', percent-encoded")
    if parts.path.strip("/"):
        raise LinkError("path: a Trojan link has none; remove what follows the port")
    query = LinkQuery(parts)
    query.choose("security", "tls")
    query.choose("encryption", "none")
    query.take_tcp()
    query.choose("flow", "", "none")
    settings = TrojanSettings(parts.user, take_tls(query, parts.host))
    query.finish()
    return settings


def _canonical(parts: ShareLink, settings: TrojanSettings) -> ShareLink:
    return ShareLink(
        scheme="trojan",
        user=settings.password,
        host=parts.host,
        port=parts.port,
        query=tuple(tls_query(settings.tls, parts.host)),
        name=parts.name,
    )


def _settings(entry: ServerEntry) -> TrojanSettings:
    if not isinstance(entry.settings, TrojanSettings):
        raise TypeError("not an entry of the Trojan transport")
    return entry.settings


@hookimpl
def circumvent_transports() -> Sequence[Transport]:
    """Offer Trojan."""
    return (Trojan(),)
