"""Subscriptions: lists of share links as providers hand them out.

Recognized are SIP008 (JSON), plain lines, and either in base64. Nothing in them is executed or
fetched; what is no link is left out, for lists often hold remarks, and one odd entry is no reason
to do without the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import msgspec

from circumvent.errors import LinkError
from circumvent.links.pasted import number_links, tidy
from circumvent.links.uri import split_name
from circumvent.texts import decode_text
from circumvent.wire.base64url import encode_base64url
from circumvent.wire.bundle import MAX_ENTRIES
from circumvent.wire.link_text import MAX_LINK, is_clean

_HTML = re.compile(r"\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
_LINK = re.compile(r"[a-z][a-z0-9+.-]{0,15}://\S+", re.IGNORECASE)
_NOT_SERVERS = ("http://", "https://", "circumvent://", "sub+https://")


class _Server(msgspec.Struct):
    server: str
    server_port: int
    password: str
    method: str
    remarks: Any = ""
    plugin: str | None = ""
    plugin_opts: str | None = ""


class _Sip008(msgspec.Struct):
    servers: list[msgspec.Raw]


def parse_subscription(data: bytes) -> tuple[str, ...]:
    """The share links in a subscription; raises LinkError, which says why, when there are none."""
    text = decode_text(data, "replace")
    found = _from_json(text)
    if found is None:
        found = _from_lines(text)
    links = _fit(found)
    if links:
        return links
    for link in found:
        _refuse(link, len(found))
    if _HTML.match(text):
        raise LinkError("subscription: a web page came instead of a list of links")
    raise LinkError("subscription: holds no share links of a form that is known")


def _from_lines(text: str) -> tuple[str, ...]:
    links = (link for _, link in number_links(text))
    return tuple(
        link for link in links if _LINK.match(link) and not link.lower().startswith(_NOT_SERVERS)
    )


def _from_json(text: str) -> tuple[str, ...] | None:
    """SIP008, or the bare list of servers that some providers send; None when it is no JSON.

    Raises LinkError when no entry is a server.
    """
    if text.lstrip()[:1] not in {"{", "["}:
        return None
    try:
        found = msgspec.json.decode(text, type=_Sip008 | list[msgspec.Raw])
    except msgspec.ValidationError:
        raise LinkError("subscription: is JSON, but not a list of servers (SIP008)") from None
    except (ValueError, RecursionError):
        return None
    entries = found if isinstance(found, list) else found.servers
    servers: list[_Server] = []
    reason = "the list is empty"
    for entry in entries:
        try:
            servers.append(msgspec.json.decode(entry, type=_Server, strict=False))
        except ValueError as error:
            reason = f"the last of {len(entries)} says: {error}"
    if not servers and "://" in text:  # a list of links, written as JSON
        return None
    if not servers:
        raise LinkError(f"subscription: is JSON without a server that can be read; {reason}")
    return tuple(map(_link, servers))


def _link(server: _Server) -> str:
    """The share link (SIP002) of a server of SIP008."""
    user = encode_base64url(f"{server.method}:{server.password}".encode())
    host = server.server.strip()
    host = f"[{host}]" if ":" in host else host
    plugin = ";".join(filter(None, (server.plugin, server.plugin_opts)))
    query = f"/?plugin={quote(plugin, safe='')}" if plugin else ""
    name = quote(str(server.remarks or ""), safe="")
    return tidy(f"ss://{user}@{host}:{server.server_port}{query}#{name}")


def _refuse(link: str, count: int) -> None:
    try:
        split_name(link)
    except LinkError as error:
        raise LinkError(
            f"subscription: none of its {count} links can be read; the first: {error}"
        ) from None


def _fit(links: Iterable[str]) -> tuple[str, ...]:
    """Those that a bundle can hold, each once."""
    fit = (link for link in links if len(link) <= MAX_LINK and is_clean(link))
    return tuple(dict.fromkeys(fit))[:MAX_ENTRIES]
