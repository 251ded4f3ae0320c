"""What an HTTP/1.1 proxy does to targets and headers (RFC 9110 §7, RFC 9112 §3), sans I/O."""

from __future__ import annotations

import base64
import binascii
from typing import Final, NamedTuple

from circumvent.errors import ProtocolError
from circumvent.wire.address import Destination
from circumvent.wire.http_bodies import FRAMING
from circumvent.wire.http_heads import Headers, format_head, tokens
from circumvent.wire.requested import requested_destination

HTTP_PORT = 80
MAX_PORT_DIGITS = 5
_SCHEME = b"http://"

CONNECTION_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"

# RFC 9110 §7.6.1, and the names that clients use though no RFC does. Transfer-Encoding is not here:
# it goes with the framing of the message.
HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"te",
        b"upgrade",
        b"proxy-authorization",
        b"proxy-authenticate",
        b"proxy-authentication-info",
    )
)


class Target(NamedTuple):
    """Where a request shall go, and how the origin wants to see it (RFC 9112 §3.2.2)."""

    destination: Destination
    authority: bytes
    origin_form: bytes


def parse_authority(authority: bytes, default_port: int | None = None) -> Destination:
    """Read ``host:port`` (RFC 9112 §3.2.3), IPv6 in brackets; raises ProtocolError."""
    host, separator, port = authority.rpartition(b":")
    if not separator or authority.endswith(b"]"):
        host, port = authority, b""
    return requested_destination(_unbracketed(host), _port(port, default_port))


def parse_absolute(target: bytes, method: bytes) -> Target:
    """Read ``http://host[:port]/path`` (RFC 9112 §3.2.2); raises ProtocolError."""
    if target[: len(_SCHEME)].lower() != _SCHEME:
        raise _bad("the request target is not of the form http://host/")
    rest = target[len(_SCHEME) :].partition(b"#")[0]
    end = min((at for at in map(rest.find, (b"/", b"?")) if at >= 0), default=len(rest))
    authority, path = rest[:end].rpartition(b"@")[2], rest[end:]
    if not path and method == b"OPTIONS":  # RFC 9112 §3.2.4
        path = b"*"
    elif not path.startswith(b"/"):
        path = b"/" + path
    return Target(parse_authority(authority, HTTP_PORT), authority, path)


def parse_basic(value: bytes) -> tuple[bytes, bytes] | None:
    """User name and password from ``Basic base64`` (RFC 7617 §2); None when it is not that."""
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        username, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return username, password


def end_to_end(headers: Headers) -> Headers:
    """The headers that a proxy passes on (RFC 9110 §7.6.1)."""
    dropped = HOP_BY_HOP.union(tokens(headers, b"connection")) - FRAMING
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def without(headers: Headers, unwanted: bytes) -> Headers:
    """The headers but for those of that (lower-case) name."""
    return [(name, value) for name, value in headers if name.lower() != unwanted]


def wants_close(headers: Headers) -> bool:
    """Whether a client will ask nothing more on its connection."""
    options = tokens(headers, b"connection") + tokens(headers, b"proxy-connection")
    return b"close" in options


def upgrade_of(headers: Headers) -> Headers:
    """The headers that ask for (or grant) another protocol, or none (RFC 9110 §7.8)."""
    wanted = [value for name, value in headers if name.lower() == b"upgrade"]
    if not wanted or b"upgrade" not in tokens(headers, b"connection"):
        return []
    return [(b"Connection", b"Upgrade"), (b"Upgrade", b", ".join(wanted))]


def plain_response(status: bytes, text: str, *extra: tuple[bytes, bytes]) -> bytes:
    """A complete short response after which the connection is closed; ``text`` is one line."""
    body = text.encode() + b"\n"
    headers: Headers = [
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Content-Length", b"%d" % len(body)),
        (b"Connection", b"close"),
        *extra,
    ]
    return format_head(b"HTTP/1.1 " + status, headers) + body


def _unbracketed(host: bytes) -> bytes:
    if not host.startswith(b"["):
        if b":" in host:
            raise _bad("an IPv6 address in a request target needs brackets")
        return host
    if not host.endswith(b"]") or b":" not in host:
        raise _bad("the brackets in the request target hold no IPv6 address")
    return host[1:-1]


def _port(digits: bytes, default: int | None) -> int:
    if not digits and default is not None:
        return default
    if not digits.isdigit() or len(digits) > MAX_PORT_DIGITS:
        raise _bad("the request target has no port")
    return int(digits)


def _bad(message: str) -> ProtocolError:
    return ProtocolError(message, stage="request")
