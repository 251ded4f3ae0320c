"""VLESS: a request header out, a response header in front of what comes back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID

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
from circumvent.links.stream_settings import StreamSettings, take_stream_settings
from circumvent.links.uri import ShareLink, parse_link
from circumvent.wire.address import IPV4, IPV6, NAME, Destination
from circumvent_plugins.vless.response import VERSION, ResponseLayer

_TCP = b"\x01"
_FLOW_FIELD = b"\x0a"
_ADDRESS_TYPES = {IPV4: b"\x01", NAME: b"\x02", IPV6: b"\x03"}  # not those of SOCKS5
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}", re.IGNORECASE)
_LONGEST_WORD = 30  # bytes of an id that is no UUID


@dataclass(frozen=True, slots=True)
class VlessSettings:
    """What a VLESS link holds besides the address of the server."""

    user: str = field(repr=False)
    stream: StreamSettings


class Vless(Transport):
    """VLESS, without flow or with Vision."""

    name = "vless"
    schemes = ("vless",)

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
        dial = settings.stream.dial(dialer, entry.host, entry.port)
        header = partial(request_header, settings.user, flow=settings.stream.flow)
        if settings.stream.flow:
            # Not at import: few links have a flow.
            from circumvent_plugins.vless.vision import VisionTunnel  # noqa: PLC0415

            return VisionTunnel(dial, header, user_bytes(settings.user))
        return HeaderTunnel(ResponseLayer().over(dial), header)


def user_bytes(user: str) -> bytes:
    """The id as it is sent: the server echoes it in Vision's padding."""
    return bytes.fromhex(user.replace("-", ""))


def request_header(user: str, destination: Destination, flow: str = "") -> bytes:
    """``00 | uuid | n | n bytes of addons | 01 | port | ATYP | address``.

    The addons are a protobuf message, whose first field is the flow. ValueError for a bad name.
    """
    kind, host = destination.encode_host()
    addons = _FLOW_FIELD + bytes((len(flow),)) + flow.encode() if flow else b""
    return b"".join(
        (
            bytes((VERSION,)),
            user_bytes(user),
            bytes((len(addons),)) + addons,
            _TCP,
            destination.port.to_bytes(2),
            _ADDRESS_TYPES[kind],
            host,
        )
    )


def _parse_settings(parts: ShareLink) -> VlessSettings:
    if parts.scheme not in Vless.schemes:
        raise LinkError("scheme: a VLESS link starts with vless://")
    query = LinkQuery(parts)
    if query.take("encryption").lower().startswith("mlkem"):
        raise lacking("encryption", "mlkem768x25519plus")
    settings = VlessSettings(parse_user(parts.user), take_stream_settings(query, parts.host))
    query.finish_leniently()
    return settings


def parse_user(text: str) -> str:
    """The UUID of a user; short words are mapped to one as Xray does; raises LinkError."""
    if _UUID.fullmatch(text):
        return str(UUID(text))
    word = text.encode()
    if not 0 < len(word) <= _LONGEST_WORD:
        raise LinkError("user: is neither a UUID nor a short word; write the user's id before '@'")
    digest = hashlib.sha1(bytes(16) + word, usedforsecurity=False).digest()
    return str(UUID(bytes=digest[:16], version=5))


def _canonical(parts: ShareLink, settings: VlessSettings) -> ShareLink:
    query = (("encryption", "none"), *settings.stream.query(parts.host))
    return replace(parts, user=settings.user, path="", query=query)


def _settings(entry: ServerEntry) -> VlessSettings:
    if not isinstance(entry.settings, VlessSettings):
        raise TypeError("not an entry of the VLESS transport")
    return entry.settings


@hookimpl
def circumvent_transports() -> Sequence[Transport]:
    """Offer VLESS."""
    return (Vless(),)
