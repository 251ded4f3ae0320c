"""Subscriptions: lists of share links as providers hand them out.

Recognized are SIP008 (JSON), plain lines, and either in base64. Nothing in them is executed or
fetched; what is no link is left out, for lists often hold remarks.
"""

from __future__ import annotations

import re
from urllib.parse import quote

import msgspec

from circumvent.errors import LinkError
from circumvent.wire.bundle import MAX_ENTRIES
from circumvent.wire.links import MAX_LINK, decode_base64, encode_base64url, is_clean

_HTML = re.compile(r"\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
_LINK = re.compile(r"[a-z][a-z0-9+.-]{0,15}://\S+", re.IGNORECASE)
_NOT_SERVERS = ("http://", "https://", "circumvent://", "sub+https://")


class _Server(msgspec.Struct):
    server: str
    server_port: int
    password: str
    method: str
    remarks: str = ""
    plugin: str = ""
    plugin_opts: str = ""


class _Sip008(msgspec.Struct):
    servers: list[_Server]


def parse_subscription(data: bytes) -> tuple[str, ...]:
    """The share links in a subscription; raises LinkError when there are none."""
    text = _text(data)
    if _HTML.match(text):
        raise LinkError("subscription: a web page came instead of a list of links")
    if text.lstrip()[:1] in {"{", "["}:
        return _limited(_from_json(data))
    found = _from_lines(text)
    if not found:
        try:
            found = _from_lines(_text(decode_base64("subscription", "".join(text.split()))))
        except LinkError:
            found = ()
    if not found:
        raise LinkError("subscription: holds no share links of a form that is known")
    return _limited(found)


def _from_lines(text: str) -> tuple[str, ...]:
    links = (line.strip() for line in text.splitlines())
    return tuple(
        link for link in links if _LINK.match(link) and not link.lower().startswith(_NOT_SERVERS)
    )


def _from_json(data: bytes) -> tuple[str, ...]:
    """SIP008; some providers send the bare list of servers."""
    try:
        found = msgspec.json.decode(data, type=_Sip008 | list[_Server], strict=False)
    except ValueError:
        raise LinkError("subscription: is JSON, but not a list of servers (SIP008)") from None
    return tuple(map(_link, found if isinstance(found, list) else found.servers))


def _link(server: _Server) -> str:
    """The share link (SIP002) of a server of SIP008."""
    user = encode_base64url(f"{server.method}:{server.password}".encode())
    host = f"[{server.server}]" if ":" in server.server else server.server
    plugin = ";".join(filter(None, (server.plugin, server.plugin_opts)))
    query = f"/?plugin={quote(plugin, safe='')}" if plugin else ""
    return f"ss://{user}@{host}:{server.server_port}{query}#{quote(server.remarks, safe='')}"


def _limited(links: tuple[str, ...]) -> tuple[str, ...]:
    fit = (link for link in links if len(link) <= MAX_LINK and is_clean(link))
    return tuple(dict.fromkeys(fit))[:MAX_ENTRIES]


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise LinkError("subscription: holds what is no text") from None
