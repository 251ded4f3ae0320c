"""Trojan: a request header inside TLS; the server sends no reply of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from circumvent.api import (
    Account,
    Cost,
    Dialer,
    LinkError,
    Privacy,
    ServerEntry,
    Transport,
    Tunnel,
    hookimpl,
)
from circumvent.layers.stack import HeaderTunnel, stacked
from circumvent.links.entry import link_entry
from circumvent.links.query import LinkQuery
from circumvent.links.stream_settings import TLS, StreamSettings, take_stream_settings
from circumvent.links.uri import ShareLink, parse_link
from circumvent.wire.address import Destination

_CRLF = b"\r\n"
_TCP = b"\x01"


@dataclass(frozen=True, slots=True)
class TrojanSettings:
    """What a Trojan link holds besides the address of the server."""

    password: str = field(repr=False)
    stream: StreamSettings


class Trojan(Transport):
    """Trojan, always inside of TLS."""

    name = "trojan"
    schemes = ("trojan",)

    def parse(self, link: str) -> ServerEntry:
        parts = parse_link(link)
        settings = _parse_settings(parts)
        return link_entry(self.name, _canonical(parts, settings), settings)

    def privacy(self, entry: ServerEntry) -> Privacy:
        return _settings(entry).stream.privacy

    def warnings(self, entry: ServerEntry) -> Sequence[str]:
        return _settings(entry).stream.warnings

    def cost(self, entry: ServerEntry) -> Cost:
        return _settings(entry).stream.cost

    async def connect(
        self,
        entry: ServerEntry,
        dialer: Dialer,
        account: Account,  # noqa: ARG002 - a tunnel without multiplexing holds nothing itself
    ) -> Tunnel:
        settings = _settings(entry)
        dial = stacked(partial(dialer.tcp, entry.host, entry.port), settings.stream.layers())
        return HeaderTunnel(dial, partial(request_header, settings.password))


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
    query.choose("encryption", "none")
    settings = TrojanSettings(parts.user, take_stream_settings(query, parts.host, (TLS,)))
    query.finish()
    return settings


def _canonical(parts: ShareLink, settings: TrojanSettings) -> ShareLink:
    return replace(parts, path="", query=settings.stream.query(parts.host))


def _settings(entry: ServerEntry) -> TrojanSettings:
    if not isinstance(entry.settings, TrojanSettings):
        raise TypeError("not an entry of the Trojan transport")
    return entry.settings


@hookimpl
def circumvent_transports() -> Sequence[Transport]:
    """Offer Trojan."""
    return (Trojan(),)
