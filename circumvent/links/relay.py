"""Invites to a relay: ``relay://SECRET@HOST:PORT?pin=…&carriers=…&web=…&host=…&path=…#name``.

SECRET is the relay's knock key and the user's token, ``pin`` the SHA-256 of the relay's public
keys (SubjectPublicKeyInfo), its own first; both in base64url. HOST:PORT is where the relay itself
answers. What goes through somebody else's web server (a CDN, nginx) connects to ``web`` instead and
asks for ``path`` on ``host``. No error text repeats any of the link.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from circumvent.errors import LinkError
from circumvent.links.query import LinkQuery
from circumvent.links.uri import ShareLink, format_link, parse_link
from circumvent.wire.address import Destination
from circumvent.wire.base64url import decode_base64, encode_base64url
from circumvent.wire.credential import TOKEN_SIZE
from circumvent.wire.host_port import parse_address, parse_host
from circumvent.wire.knock import KNOCK_KEY_SIZE

SCHEME = "relay"
PIN_SIZE = 32  # SHA-256
MAX_PINS = 4  # the relay's own key, that of its certificate for the web, and next ones of that
MAX_CARRIERS = 8
DEFAULT_CARRIERS = ("tls",)
_CARRIER = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]{0,255}")  # RFC 3986 §3.3, nothing encoded


@dataclass(frozen=True, slots=True)
class RelayLink:
    """How one user reaches one relay.

    ``pins`` begin with the relay's own key, the only one that counts inside of what others carry.
    ``carriers`` are alternatives, the best first. ``server_name`` is the SNI of TLS that ends at
    the relay, ``web`` where TLS ends at somebody else's web server, if anywhere; ``web_host`` is
    what to ask that for when it is not the name that one connects to.
    """

    host: str
    port: int
    knock_key: bytes = field(repr=False)
    token: bytes = field(repr=False)
    pins: tuple[bytes, ...]
    carriers: tuple[str, ...] = DEFAULT_CARRIERS
    server_name: str = ""
    web: Destination | None = None
    web_host: str = ""
    path: str = "/"
    name: str = ""

    @property
    def identity(self) -> bytes:
        """The pin of the relay's own key."""
        return self.pins[0]


def parse_relay_link(text: str) -> RelayLink:
    """Read a relay link; raises LinkError naming the part that is wrong, UnsupportedError."""
    parts = parse_link(text)
    if parts.scheme != SCHEME:
        raise LinkError(f"scheme: a relay's link starts with {SCHEME}://")
    if parts.path.strip("/"):
        raise LinkError("path: a relay's link has none before the '?'; copy the whole link")
    query = LinkQuery(parts)
    knock_key, token = _parse_secret(parts.user)
    link = RelayLink(
        host=parts.host,
        port=parts.port,
        knock_key=knock_key,
        token=token,
        pins=_take_pins(query),
        carriers=_take_carriers(query),
        server_name=_take_host(query, "sni"),
        web=_take_web(query),
        web_host=_take_host(query, "host"),
        path=_take_path(query),
        name=parts.name,
    )
    query.finish()
    return link


def format_relay_link(link: RelayLink) -> str:
    """The link as text; ``parse_relay_link`` gives the same value back."""
    query = [("pin", ",".join(map(encode_base64url, link.pins)))]
    if link.carriers != DEFAULT_CARRIERS:
        query.append(("carriers", ",".join(link.carriers)))
    optional = (
        ("sni", link.server_name),
        ("web", str(link.web or "")),
        ("host", link.web_host),
        ("path", link.path if link.path != "/" else ""),
    )
    query += [(key, value) for key, value in optional if value]
    secret = encode_base64url(link.knock_key + link.token)
    return format_link(
        ShareLink(SCHEME, secret, link.host, link.port, query=tuple(query), name=link.name)
    )


def _parse_secret(user: str) -> tuple[bytes, bytes]:
    secret = _parse_bytes("user", user, KNOCK_KEY_SIZE + TOKEN_SIZE)
    return secret[:KNOCK_KEY_SIZE], secret[KNOCK_KEY_SIZE:]


def _take_pins(query: LinkQuery) -> tuple[bytes, ...]:
    pins = tuple(_parse_bytes("pin", item, PIN_SIZE) for item in query.take_list("pin"))
    if not 0 < len(pins) <= MAX_PINS:
        raise LinkError(f"pin: a relay's link has 1 to {MAX_PINS} of them; copy the whole link")
    return pins


def _take_carriers(query: LinkQuery) -> tuple[str, ...]:
    carriers = query.take_list("carriers") or DEFAULT_CARRIERS
    if len(carriers) > MAX_CARRIERS or not all(map(_CARRIER.fullmatch, carriers)):
        raise LinkError(f"carriers: are at most {MAX_CARRIERS} words such as tls,websocket")
    if len(set(carriers)) != len(carriers):
        raise LinkError("carriers: one is named twice; keep only one of them")
    return carriers


def _take_web(query: LinkQuery) -> Destination | None:
    web = query.take("web")
    try:
        return Destination(*parse_address(web)) if web else None
    except LinkError as error:
        raise LinkError(f"web: {error}") from None


def _take_host(query: LinkQuery, key: str) -> str:
    host = query.take(key)
    try:
        return parse_host(host) if host else ""
    except LinkError:
        raise LinkError(f"{key}: is neither a host name nor an IP address; correct it") from None


def _take_path(query: LinkQuery) -> str:
    path = query.take("path") or "/"
    if not _PATH.fullmatch(path):
        raise LinkError("path: starts with '/', and holds only what needs no encoding; correct it")
    return path


def _parse_bytes(part: str, text: str, size: int) -> bytes:
    raw = decode_base64(part, text)
    if len(raw) != size or encode_base64url(raw) != text.rstrip("="):
        raise LinkError(f"{part}: is not of {size} bytes; copy the whole link again")
    return raw
