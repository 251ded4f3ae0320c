"""What an HTTP/1.1 proxy does to targets and headers (RFC 9110 §7, RFC 9112 §3), sans I/O."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Final, NamedTuple

from circumvent.errors import ProtocolError
from circumvent.wire.address import Destination
from circumvent.wire.requested import requested_destination

HTTP_PORT = 80
MAX_PORT_DIGITS = 5
_SCHEME = b"http://"

Headers = list[tuple[bytes, bytes]]

CONNECTION_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"

# RFC 9110 §7.6.1, and the names that clients use though no RFC does. Trailers are dropped, which
# RFC 9110 §6.5.1 allows, so neither are they announced. Transfer-Encoding is not here: it goes
# with the framing of the message.
HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"upgrade",
        b"proxy-authorization",
        b"proxy-authenticate",
        b"proxy-authentication-info",
    )
)
FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))


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


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that a proxy passes on (RFC 9110 §7.6.1).

    A Content-Length beside a Transfer-Encoding is dropped: two proxies that disagree about the
    length of a message are how requests are smuggled (RFC 9112 §6.3).
    """
    listed = list(headers)
    named = connection_options(listed) - FRAMING
    dropped = HOP_BY_HOP | named
    if any(name.lower() == b"transfer-encoding" for name, _ in listed):
        dropped |= {b"content-length"}
    return [(name, value) for name, value in listed if name.lower() not in dropped]


def connection_options(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The lower-case tokens of all Connection headers."""
    return frozenset(
        token.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for token in value.split(b",")
    )


def upgrade_of(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that ask for (or grant) another protocol, or none (RFC 9110 §7.8)."""
    listed = list(headers)
    wanted = [value for name, value in listed if name.lower() == b"upgrade"]
    if not wanted or b"upgrade" not in connection_options(listed):
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
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %b\r\n%b\r\n%b" % (status, lines, body)


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
