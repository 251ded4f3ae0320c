"""How a stream travels inside of its security: ``type`` of a link, and what goes with it.

The code of a carriage is loaded when a link asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from circumvent.api import Layer
from circumvent.links.query import LinkQuery, find_word, lacking
from circumvent.wire.address import encode_name

Parameters = tuple[tuple[str, str], ...]
HTTP_1 = ("http/1.1",)  # what speaks HTTP/1.1 inside of TLS must not be offered HTTP/2
MIN_EARLY = 512  # bytes; fewer might not hold the header of a request
MAX_EARLY = 4096  # bytes; servers take a head of 8 KiB, and base64 adds a third
EARLY_HEADER = "Sec-WebSocket-Protocol"
# Known elsewhere and lacking here; what no program knows means tcp, as other programs read it.
LACKING = frozenset({
    *("grpc", "gun", "xhttp", "splithttp", "kcp", "mkcp", "quic", "h2", "h3", "http"),
    *("hysteria", "meek", "domainsocket", "ds", "mekya", "dtls", "wireguard"),
})  # fmt: skip
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_IN_TARGETS = "/?&=%!$'()*+,;:@[]~|-._"  # anything else is percent-encoded
_EARLY_SIZE = re.compile(r"(?<=[?&])ed=([^&]*)(&|$)")
_TOKEN = re.compile(r"[A-Za-z0-9-]{1,64}")


class Carriage(Protocol):
    """How a stream travels inside of its security."""

    @property
    def alpn(self) -> tuple[str, ...]:
        """What TLS below must offer; empty when the link may choose."""
        ...

    def layers(self) -> tuple[Layer, ...]:
        """The layers that carry a stream so, the lowest first."""
        ...

    def query(self) -> Parameters:
        """The parameters from which the same value is read."""
        ...


TakeCarriage = Callable[[LinkQuery, str], Carriage]


@dataclass(frozen=True, slots=True)
class TcpCarriage:
    """The bytes travel as they are."""

    alpn: tuple[str, ...] = ()

    def layers(self) -> tuple[Layer, ...]:
        """No layer."""
        return ()

    def query(self) -> Parameters:
        """No parameter: it is the default."""
        return ()


@dataclass(frozen=True, slots=True)
class WebSocketCarriage:
    """Frames of a WebSocket; ``early`` bytes may go out in ``early_header`` of its request."""

    host: str
    path: str = "/"
    early: int = 0
    early_header: str = EARLY_HEADER
    alpn: tuple[str, ...] = HTTP_1

    def layers(self) -> tuple[Layer, ...]:
        """One layer."""
        from circumvent.layers.early_websocket import EarlyWebSocketLayer  # noqa: PLC0415 - for few
        from circumvent.layers.websocket import WebSocketLayer  # noqa: PLC0415 - for few
        from circumvent.wire.browser import upgrade_headers  # noqa: PLC0415 - for few

        headers = upgrade_headers(self.host)
        plain = WebSocketLayer(self.host, self.path, headers, half_closes=False)
        if self.early < MIN_EARLY:
            return (plain,)
        return (EarlyWebSocketLayer(plain, self.early, self.early_header),)

    def query(self) -> Parameters:
        """``type``, ``host``, ``path`` and both of early data."""
        early = (("ed", str(self.early)), ("eh", self.early_header)) if self.early else ()
        return ("type", "ws"), ("host", self.host), ("path", self.path), *early


@dataclass(frozen=True, slots=True)
class HttpUpgradeCarriage:
    """Bare bytes after an upgrade; with ``early`` data follows the request at once."""

    host: str
    path: str = "/"
    early: int = 0
    alpn: tuple[str, ...] = HTTP_1

    def layers(self) -> tuple[Layer, ...]:
        """One layer."""
        from circumvent.layers.http_opening import HttpUpgradeLayer  # noqa: PLC0415 - for few

        return (HttpUpgradeLayer(self.host, self.path, waits=not self.early),)

    def query(self) -> Parameters:
        """``type``, ``host``, ``path`` and ``ed``."""
        early = (("ed", str(self.early)),) if self.early else ()
        return ("type", "httpupgrade"), ("host", self.host), ("path", self.path), *early


@dataclass(frozen=True, slots=True)
class HttpHeaderCarriage:
    """Bare bytes after the head of a request, and after the head of its answer."""

    host: str
    path: str = "/"
    alpn: tuple[str, ...] = ()

    def layers(self) -> tuple[Layer, ...]:
        """One layer."""
        from circumvent.layers.http_opening import HttpHeaderLayer  # noqa: PLC0415 - for few

        return (HttpHeaderLayer(self.host, self.path),)

    def query(self) -> Parameters:
        """``type``, ``headerType``, ``host`` and ``path``."""
        return ("headerType", "http"), ("host", self.host), ("path", self.path)


def _take_tcp(query: LinkQuery, host: str) -> Carriage:
    if find_word(query.take("headerType"), ("http",)):
        path = query.take("path").split(",")[0]
        return HttpHeaderCarriage(take_host(query, host), format_target(path))
    return TcpCarriage()


def _take_websocket(query: LinkQuery, host: str) -> Carriage:
    path, early = _take_path(query)
    header = query.take("eh") or EARLY_HEADER
    if not _TOKEN.fullmatch(header):
        raise lacking("eh", "")
    return WebSocketCarriage(take_host(query, host), path, early, header)


def _take_http_upgrade(query: LinkQuery, host: str) -> Carriage:
    path, early = _take_path(query)
    return HttpUpgradeCarriage(take_host(query, host), path, early)


def _take_path(query: LinkQuery) -> tuple[str, int]:
    """The target, and how many bytes may go out early."""
    path, early = split_early_size(query.take("path", "wspath"))
    return format_target(path), early or _parse_early_size(query.take("ed"))


CARRIAGES: Mapping[str, TakeCarriage] = {
    "tcp": _take_tcp,
    "raw": _take_tcp,
    "original": _take_tcp,
    "ws": _take_websocket,
    "websocket": _take_websocket,
    "httpupgrade": _take_http_upgrade,
}


def take_carriage(
    query: LinkQuery, host: str, carriages: Mapping[str, TakeCarriage] = CARRIAGES
) -> Carriage:
    """Take ``type`` and what goes with it; ``host`` is the name that the connection asks for.

    Raises UnsupportedError for what is known elsewhere and not in the table.
    """
    written = query.take("type", "network", "net", "transport")
    is_websocket = query.take_flag("ws") and not written
    word = "ws" if is_websocket else find_word(written, carriages.keys() | LACKING)
    if written and not word:
        query.notes.append("type: names nothing that is known; taken as tcp")
    if word not in carriages and word:
        raise lacking("type", word)
    carriage = carriages[word or "tcp"](query, host)
    query.take("headerType")  # of tcp; elsewhere it asks for nothing
    return carriage


def take_host(query: LinkQuery, default: str) -> str:
    """The value of the Host header, as it is written where that can be sent."""
    written = query.take("host", "wsHost").split(",")[0].strip()
    if not written:
        return f"[{default}]" if ":" in default else default
    if _VISIBLE.fullmatch(written):
        return written
    try:
        return encode_name(written).decode()
    except ValueError:
        query.notes.append("host: is no host name; the server's own is sent")
        return take_host(query, default)


def format_target(path: str) -> str:
    """The target of a request, from a path as people write it."""
    return quote(path if path.startswith("/") else f"/{path}", safe=_IN_TARGETS)


def split_early_size(path: str) -> tuple[str, int]:
    """A path without its ``?ed=N``, and N; 0 without one, or when it is no number."""
    found = _EARLY_SIZE.search(path)
    if found is None:
        return path, 0
    rest = path[: found.start()] + path[found.end() :]
    return rest.rstrip("?&"), _parse_early_size(found[1])


def _parse_early_size(text: str) -> int:
    is_number = text.isascii() and text.isdigit()
    return min(int(text[:9]), MAX_EARLY) if is_number else 0
