"""Trojan: a request header, mostly inside TLS; the server sends no reply of its own."""

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
from circumvent.layers.stack import HeaderTunnel
from circumvent.links.entry import link_entry
from circumvent.links.query import LinkQuery, lacking
from circumvent.links.stream_settings import TLS, StreamSettings, take_stream_settings
from circumvent.links.uri import ShareLink, parse_link
from circumvent.wire.address import Destination

_CRLF = b"\r\n"
_TCP = b"\x01"
_DEFAULT_PORT = 443
_DEFAULT = ("security", TLS)


@dataclass(frozen=True, slots=True)
class TrojanSettings:
    """What a Trojan link holds besides the address of the server."""

    password: str = field(repr=False)
    stream: StreamSettings


class Trojan(Transport):
    """Trojan, mostly inside of TLS."""

    name = "trojan"
    schemes = ("trojan",)

    def parse(self, link: str) -> ServerEntry:
        parts = parse_link(link, _DEFAULT_PORT)
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
        dial = settings.stream.dial(dialer, entry.host, entry.port)
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
    query = LinkQuery(parts)
    if query.take("encryption").lower().startswith("ss"):  # trojan-go's Shadowsocks inside
        raise lacking("encryption", "ss")
    query.take("flow")  # of XTLS, which is gone; Trojan has none since
    settings = TrojanSettings(parts.user, take_stream_settings(query, parts.host, TLS))
    query.finish_leniently()
    return settings


def _canonical(parts: ShareLink, settings: TrojanSettings) -> ShareLink:
    query = settings.stream.query(parts.host)
    return replace(parts, path="", query=tuple(each for each in query if each != _DEFAULT))


def _settings(entry: ServerEntry) -> TrojanSettings:
    if not isinstance(entry.settings, TrojanSettings):
        raise TypeError("not an entry of the Trojan transport")
    return entry.settings


@hookimpl
def circumvent_transports() -> Sequence[Transport]:
    """Offer Trojan."""
    return (Trojan(),)
