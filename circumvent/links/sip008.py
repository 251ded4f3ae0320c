"""SIP008: a list of Shadowsocks servers as JSON, read as share links."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from circumvent.errors import LinkError
from circumvent.links.pasted import tidy
from circumvent.wire.base64url import encode_base64url


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


def parse(text: str) -> tuple[str, ...] | None:
    """The links of SIP008, or of the bare list of servers that some providers send.

    None when ``text`` is no JSON, or JSON that has links in it. Raises LinkError when no entry is a
    server. An entry that is none is left out.
    """
    try:
        found = msgspec.json.decode(text, type=_Sip008 | list[msgspec.Raw])
    except msgspec.ValidationError:
        if "://" in text:
            return None
        raise LinkError("this is JSON, but not a list of servers (SIP008)") from None
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
    if not servers and "://" in text:
        return None
    if not servers:
        raise LinkError(f"this is JSON without a server that can be read; {reason}")
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
