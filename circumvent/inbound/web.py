"""HTTP at the inbound: CONNECT, and requests in absolute form (RFC 9110 §9.3.6, §7)."""

from __future__ import annotations

import re
from functools import partial

from circumvent.errors import (
    BudgetError,
    CircumventError,
    DestinationError,
    NoTunnelError,
    ProtocolError,
    Reason,
    StreamResetError,
    UnsupportedError,
)
from circumvent.inbound.connection import ClientConnection
from circumvent.inbound.forward import Exchange
from circumvent.inbound.options import Credentials
from circumvent.wire.address import Destination
from circumvent.wire.http_bodies import ANSWER, REQUEST
from circumvent.wire.http_heads import HttpRequest, parse_request
from circumvent.wire.http_proxy import (
    CONNECTION_ESTABLISHED,
    Target,
    parse_absolute,
    parse_authority,
    parse_basic,
    plain_response,
)

_CHALLENGE = (b"Proxy-Authenticate", b'Basic realm="circumvent", charset="UTF-8"')
_ALLOW = (b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT")
_STATUS = {
    400: b"400 Bad Request",
    405: b"405 Method Not Allowed",
    407: b"407 Proxy Authentication Required",
    431: b"431 Request Header Fields Too Large",
    501: b"501 Not Implemented",
    502: b"502 Bad Gateway",
    503: b"503 Service Unavailable",
    504: b"504 Gateway Timeout",
}
_STATUS_OF_STAGE = {REQUEST: 400, ANSWER: 502}
# A program never asks a proxy like this. A page in a browser does, to find out what listens on this
# machine, and any answer would tell it.
_TO_A_SITE = re.compile(rb"[\r\n]*[A-Za-z]+ [/*]")
_OUT_OF_MEMORY = (
    "circumvent is out of memory: close other connections, or give it more (memory = ...)"
)


class _RefusedError(ProtocolError):
    """A request that is answered with ``response``, after which the connection closes."""

    def __init__(self, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(text, stage="request")
        self.response = plain_response(_STATUS[status], text, *headers)


async def serve_http(connection: ClientConnection) -> None:
    """Answer requests until the client leaves or asks for a tunnel."""
    try:
        destination = await _serve_requests(connection)
    except _RefusedError as refused:
        await connection.close_with(refused.response)
        return
    if destination is None:
        await connection.close_with(b"")
    else:
        await connection.carry(destination, CONNECTION_ESTABLISHED, _refusal)


async def _serve_requests(connection: ClientConnection) -> Destination | None:
    """Serve plain requests up to a CONNECT: its destination; None when the client is done."""
    while True:
        # Nothing else of the request is kept, however long the answer takes.
        wanted = await _next_request(connection)
        if not isinstance(wanted, Exchange):
            return wanted
        if not await _forward(connection, wanted):
            return None
        await connection.wait_for_message()


async def _next_request(connection: ClientConnection) -> Exchange | Destination | None:
    """What the next request asks for; None when the client has left."""
    limit = connection.context.options.max_head
    try:
        request = await connection.read_message(partial(_parse_head, limit=limit), limit)
    except _RefusedError:
        raise
    except ProtocolError:
        return None
    connection.clear_deadline()
    _check_credentials(connection.context.options.credentials, request)
    try:
        if request.method == b"CONNECT":
            return _tunnel_destination(request)
        return Exchange(connection, request, _target(request))
    except ProtocolError as error:
        raise _as_refusal(error) from error


def _parse_head(data: bytes, limit: int) -> tuple[HttpRequest, int] | None:
    if _TO_A_SITE.match(data):
        raise StreamResetError("a request that is for a web site", stage="request")
    try:
        found = parse_request(data)
    except (ProtocolError, UnsupportedError) as error:
        raise _as_refusal(error) from error
    if found is None and len(data) >= limit:
        raise _RefusedError(431, f"the request's head is longer than {limit} bytes")
    return found


def _check_credentials(credentials: Credentials | None, request: HttpRequest) -> None:
    if credentials is None:
        return
    for name, value in request.headers:
        if name.lower() == b"proxy-authorization":
            shown = parse_basic(value)
            if shown is not None and credentials.match(*shown):
                return
    raise _RefusedError(407, "this proxy requires a user name and a password", _CHALLENGE)


def _tunnel_destination(request: HttpRequest) -> Destination:
    if not request.body.is_over:
        raise ProtocolError("a CONNECT has no body", stage=REQUEST)
    return parse_authority(request.target)


def _target(request: HttpRequest) -> Target:
    if request.method == b"TRACE":  # it would send the client's cookies back to a script
        raise _RefusedError(405, "TRACE is not served", _ALLOW)
    return parse_absolute(request.target, request.method)


async def _forward(connection: ClientConnection, exchange: Exchange) -> bool:
    """Whether the client may ask again; raises _RefusedError only while nothing was answered."""
    try:
        return await exchange.run(await connection.context.outbound.open(exchange.destination))
    except CircumventError as error:
        if exchange.is_answered:
            raise
        raise _as_refusal(error) from error


def _as_refusal(error: CircumventError) -> _RefusedError:
    return error if isinstance(error, _RefusedError) else _RefusedError(*_explained(error))


def _refusal(error: CircumventError) -> bytes:
    status, text = _explained(error)
    return plain_response(_STATUS[status], text)


def _explained(error: CircumventError) -> tuple[int, str]:
    """Status and text that say why the origin cannot be reached; neither names it."""
    if isinstance(error, DestinationError):
        return (504 if error.reason is Reason.TIMED_OUT else 502), str(error)
    if isinstance(error, NoTunnelError):
        return 503, "no tunnel is up"
    if isinstance(error, BudgetError):
        return 503, _OUT_OF_MEMORY
    if isinstance(error, UnsupportedError):
        return 501, str(error)
    if error.stage in _STATUS_OF_STAGE:
        return _STATUS_OF_STAGE[error.stage], str(error)
    return 502, "the tunnel failed before the destination answered"
