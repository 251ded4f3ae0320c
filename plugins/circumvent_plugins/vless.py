"""VLESS: a request header out, a response header in front of what comes back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from circumvent.api import (
    Account,
    ByteStream,
    Cost,
    Dialer,
    LayerStream,
    LinkError,
    Privacy,
    ProtocolError,
    ServerEntry,
    StreamLayer,
    StreamResetError,
    Transport,
    Tunnel,
    hookimpl,
)
from circumvent.layers.stack import HeaderTunnel, stacked
from circumvent.links.query import LinkQuery
from circumvent.links.stream_settings import StreamSettings, take_stream_settings
from circumvent.links.uri import ShareLink, format_link, parse_link
from circumvent.wire.address import IPV4, IPV6, NAME, Destination

VERSION = 0
_NO_ADDONS = b"\x00"
_TCP = b"\x01"
_ADDRESS_TYPES = {IPV4: b"\x01", NAME: b"\x02", IPV6: b"\x03"}  # not those of SOCKS5
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class VlessSettings:
    """What a VLESS link holds besides the address of the server."""

    user: str = field(repr=False)
    stream: StreamSettings


class Vless(Transport):
    """VLESS without flow."""

    name = "vless"
    schemes = ("vless",)

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
        layers = (*settings.stream.layers(), ResponseLayer())
        dial = stacked(partial(dialer.tcp, entry.host, entry.port), layers)
        return HeaderTunnel(dial, partial(request_header, settings.user))


class ResponseLayer(StreamLayer):
    """Takes the server's response header off what comes back."""

    async def start(self, stream: ByteStream) -> ByteStream:
        return ResponseStream(stream)


class ResponseStream(LayerStream):
    """Drops the response header ``00 | n | n bytes``, in however many pieces it arrives."""

    def __init__(self, base: ByteStream) -> None:
        super().__init__(base)
        self._seen = 0
        self._size = 2  # grows when the length byte is seen

    def read_into(self, buffer: memoryview) -> int | None:
        count = self.base.read_into(buffer)
        if count is None or self._seen == self._size:
            return count
        if count == 0 and self._seen:
            message = "connection lost: it was cut, inside VLESS's response header"
            raise StreamResetError(message, stage="read")
        return self._strip(buffer, count) if count else 0

    def _strip(self, buffer: memoryview, count: int) -> int | None:
        taken = 0
        while taken < count and self._seen < self._size:
            self._accept(buffer[taken])
            taken += 1
        rest = count - taken
        buffer[:rest] = buffer[taken:count]
        return rest or None

    def _accept(self, byte: int) -> None:
        if self._seen == 0 and byte != VERSION:
            raise ProtocolError("VLESS: a response of an unknown version", stage="response")
        if self._seen == 1:
            self._size += byte
        self._seen += 1


def request_header(user: str, destination: Destination) -> bytes:
    """``00 | uuid | 00 | 01 | port | ATYP | address``; ValueError for a bad name."""
    kind, host = destination.encode_host()
    return b"".join(
        (
            bytes((VERSION,)),
            bytes.fromhex(user.replace("-", "")),
            _NO_ADDONS,
            _TCP,
            destination.port.to_bytes(2),
            _ADDRESS_TYPES[kind],
            host,
        )
    )


def _parse_settings(parts: ShareLink) -> VlessSettings:
    if parts.scheme not in Vless.schemes:
        raise LinkError("scheme: a VLESS link starts with vless://")
    if not _UUID.fullmatch(parts.user):
        raise LinkError("user: is not a UUID; write the user's id before '@'")
    if parts.path.strip("/"):
        raise LinkError("path: a VLESS link has none; remove what follows the port")
    query = LinkQuery(parts)
    query.choose("encryption", "none")
    stream = take_stream_settings(query, parts.host)
    query.finish()
    return VlessSettings(str(UUID(parts.user)), stream)


def _canonical(parts: ShareLink, settings: VlessSettings) -> ShareLink:
    stream = settings.stream
    return ShareLink(
        scheme="vless",
        user=settings.user,
        host=parts.host,
        port=parts.port,
        query=(
            ("encryption", "none"),
            ("security", stream.security),
            *stream.query(parts.host),
        ),
        name=parts.name,
    )


def _settings(entry: ServerEntry) -> VlessSettings:
    if not isinstance(entry.settings, VlessSettings):
        raise TypeError("not an entry of the VLESS transport")
    return entry.settings


@hookimpl
def circumvent_transports() -> Sequence[Transport]:
    """Offer VLESS."""
    return (Vless(),)
