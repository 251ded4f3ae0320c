"""Shadowsocks with AEAD ciphers (SIP004): links of SIP002 and of the older kind.

A salt may begin with a prefix, as in https://developers.google.com/outline/docs/guides/service-providers/prefixing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import unquote

from circumvent.api import (
    Account,
    ByteStream,
    Cost,
    Dialer,
    LinkError,
    PeekStream,
    Privacy,
    ServerEntry,
    StreamLayer,
    Transport,
    Tunnel,
    UnsupportedError,
    hookimpl,
)
from circumvent.layers.stack import HeaderTunnel
from circumvent.links.entry import link_entry
from circumvent.links.query import LinkQuery, lacking
from circumvent.links.stream_settings import take_stream_settings
from circumvent.links.uri import ShareLink, parse_link, parse_query, split_name
from circumvent.wire.address import Destination
from circumvent.wire.base64url import decode_base64, encode_base64url
from circumvent.wire.host_port import parse_address
from circumvent_plugins.shadowsocks.aead import AeadStream
from circumvent_plugins.shadowsocks.ciphers import CIPHERS, Cipher, master_key
from circumvent_plugins.shadowsocks.over_socket import AeadOverSocket
from circumvent_plugins.shadowsocks.over_stream import AeadOverStream

# Worst case of two cipher contexts; the memory bench measures it. A dial costs no more.
AEAD_COST = Cost(dial=6 * 1024, stream=6 * 1024)

MIN_RANDOM = 8  # bytes of a salt: two connections with the same one could be read
METHODS = {
    "aes-128-gcm": "aes-128-gcm",
    "aes-256-gcm": "aes-256-gcm",
    "chacha20-ietf-poly1305": "chacha20-ietf-poly1305",
    "chacha20-poly1305": "chacha20-ietf-poly1305",
}

# An error names only these: in a broken link a password may stand in this place.
KNOWN_ELSEWHERE = re.compile(
    r"""
    2022-blake3-(aes-(128|256)-[cg]cm | chacha(8|20)-poly1305)
    | (aes|camellia|lea)-(128|192|256)-([cg]cm(-siv)? | cfb[18]? | ofb | ctr | cbc)
    | x?chacha(8|20)(-ietf)?(-poly1305)? | x?salsa20(-ctr)? | aegis-(128l|256)
    | rc4(-md5(-6)?)? | (bf|cast5|des|idea|rc2|seed)-cfb | none | plain | dummy | table
    """,
    re.VERBOSE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
KNOWN_PLUGINS = frozenset(
    {"obfs", "obfs-local", "simple-obfs", "v2ray-plugin", "xray-plugin", "kcptun"}
)


@dataclass(frozen=True, slots=True)
class ShadowsocksSettings:
    """What a Shadowsocks link holds besides the address of the server."""

    method: str
    password: str = field(repr=False)
    prefix: bytes = b""


class Shadowsocks(Transport):
    """Shadowsocks AEAD."""

    name = "shadowsocks"
    schemes = ("ss",)

    def parse(self, link: str) -> ServerEntry:
        parts = _read_link(link)
        query = LinkQuery(parts)
        settings = _parse_user(parts.user, query.take("prefix"))
        _check_query(query, parts.host)
        return link_entry(self.name, _canonical(parts, settings), settings)

    def privacy(self, entry: ServerEntry) -> Privacy:  # noqa: ARG002 - all AEAD ciphers
        return Privacy.ENCRYPTED

    def cost(self, entry: ServerEntry) -> Cost:  # noqa: ARG002 - as above
        return AEAD_COST

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        settings = _settings(entry)
        cipher = CIPHERS[settings.method]
        layer = AeadLayer(
            cipher, master_key(settings.password, cipher.key_size), account, settings.prefix
        )
        dial = partial(dialer.tcp, entry.host, entry.port)
        return HeaderTunnel(layer.over(dial), Destination.encode)


@dataclass(frozen=True, slots=True)
class AeadLayer(StreamLayer):
    """Records of Shadowsocks under one key; ``account`` pays for partial records that are held.

    ``prefix`` begins each connection, in place of the first bytes of its salt.
    """

    cipher: Cipher
    key: bytes = field(repr=False)
    account: Account
    prefix: bytes = b""

    @property
    def cost(self) -> Cost:
        return AEAD_COST

    async def start(self, stream: ByteStream) -> AeadStream:
        aead = self._begin(stream)
        if self.prefix:
            aead.put_prefix(self.prefix)
        return aead

    def _begin(self, stream: ByteStream) -> AeadStream:
        if isinstance(stream, PeekStream):
            return AeadOverSocket(stream, self.cipher, self.key, self.account)
        return AeadOverStream(stream, self.cipher, self.key, self.account)


def _read_link(text: str) -> ShareLink:
    body, name = split_name(text)
    scheme, _, rest = body.partition("://")
    if scheme.lower() not in Shadowsocks.schemes:
        raise LinkError("scheme: a Shadowsocks link starts with ss://")
    user, at, tail = rest.partition("@")
    if at:  # one alphabet of base64 has slashes, which some programs do not encode
        parts = replace(parse_link(f"ss://{user.replace('/', '%2F')}@{tail}"), name=name)
    else:
        parts = _read_legacy(rest, name)
    return parts


def _read_legacy(body: str, name: str) -> ShareLink:
    """``base64(method:password@host:port)``, whose password is not percent-encoded."""
    encoded, _, query = body.partition("?")
    user, at, address = _decode_text("link", unquote(encoded).rstrip("/")).rpartition("@")
    if not at:
        raise LinkError("user: missing before an '@'; copy the whole link")
    host, port = parse_address(address)
    return ShareLink("ss", user, host, port, query=parse_query(query), name=name)


def _check_query(query: LinkQuery, host: str) -> None:
    query.take("encryption", "flow")  # of VLESS
    plugin = query.take("plugin")
    if plugin:
        name = plugin.partition(";")[0]
        shown = name if name in KNOWN_PLUGINS else "another"
        raise UnsupportedError(f"plugin={shown} is not supported; ask for a link without plugin")
    stream = take_stream_settings(query, host)
    if stream.layers():
        raise lacking(*(*stream.carriage.query(), *stream.security.query(host))[0])
    query.finish_leniently()


def _parse_user(user: str, prefix: str) -> ShadowsocksSettings:
    """``method:password``, as it is or in base64 (SIP002)."""
    text = user if ":" in user else _decode_text("user", user)
    method, colon, password = text.partition(":")
    if not colon or not password:
        raise LinkError("user: is not 'method:password'; copy the whole link again")
    if _CONTROL.search(password):
        raise LinkError("user: the password holds a control character; copy the whole link again")
    known = _parse_method(method.strip().lower())
    return ShadowsocksSettings(known, password, _parse_prefix(prefix, CIPHERS[known].key_size))


def _parse_prefix(text: str, salt_size: int) -> bytes:
    """Outline's prefix: each character is the byte of its code point."""
    try:
        prefix = text.encode("latin-1")
    except UnicodeEncodeError:
        raise LinkError("prefix: holds a character that is no byte; copy the link again") from None
    if len(prefix) > salt_size - MIN_RANDOM:
        raise LinkError(f"prefix: is longer than {salt_size - MIN_RANDOM} bytes; ask for another")
    return prefix


def _parse_method(method: str) -> str:
    if method in METHODS:
        return METHODS[method]
    if KNOWN_ELSEWHERE.fullmatch(method):
        raise UnsupportedError(f"method {method} is not supported; use {', '.join(METHODS)}")
    raise LinkError(f"method: unknown; it is one of {', '.join(METHODS)}")


def _decode_text(part: str, text: str) -> str:
    """What base64 holds, without what an editor or ``echo`` put around it; raises LinkError.

    A blank at the end stays: no tool adds one, so it belongs to the password.
    """
    try:
        return decode_base64(part, "".join(text.split())).decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError:
        raise LinkError(f"{part}: its base64 holds no text; copy the whole link again") from None


def _canonical(parts: ShareLink, settings: ShadowsocksSettings) -> ShareLink:
    user = encode_base64url(f"{settings.method}:{settings.password}".encode())
    query = (("prefix", settings.prefix.decode("latin-1")),) if settings.prefix else ()
    return ShareLink("ss", user, parts.host, parts.port, query=query, name=parts.name)


def _settings(entry: ServerEntry) -> ShadowsocksSettings:
    if not isinstance(entry.settings, ShadowsocksSettings):
        raise TypeError("not an entry of the Shadowsocks transport")
    return entry.settings


@hookimpl
def circumvent_transports() -> Sequence[Transport]:
    """Offer Shadowsocks."""
    return (Shadowsocks(),)
