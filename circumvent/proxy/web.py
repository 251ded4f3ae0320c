"""HTTP at the front door: CONNECT, and requests in absolute form (RFC 9110 §9.3.6, §7)."""

from __future__ import annotations

import re

import h11

from circumvent.api.exchange import receive
from circumvent.errors import (
    CircumventError,
    DestinationError,
    NoTunnelError,
    ProtocolError,
    Reason,
)
from circumvent.proxy.forward import Exchange
from circumvent.proxy.options import Credentials
from circumvent.proxy.visit import Visit
from circumvent.wire.address import Destination
from circumvent.wire.http_proxy import (
    CONNECTION_ESTABLISHED,
    Target,
    parse_absolute,
    parse_authority,
    parse_basic,
    plain_response,
)

# What one exchange between a client and an origin holds outside the arena at worst. Measured with
# heads of 16 KiB in 140 fields and full pieces of body, both ways: 270 KiB at the peak.
EXCHANGE_COST = 288 * 1024

_HEAD_END = re.compile(rb"\n\r?\n")
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
BAD_REQUEST = 400


class _RefusedError(ProtocolError):
    """A request whose answer is ``response``, after which the connection closes."""

    def __init__(self, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(text, stage="request")
        self.response = plain_response(_STATUS[status], text, *headers)


async def serve_http(visit: Visit) -> None:
    """Answer requests until the client leaves or asks for a tunnel."""
    try:
        destination = await _serve_requests(visit)
    except _RefusedError as refused:
        await visit.farewell(refused.response)
        return
    # h11 is gone from memory by now, however long the tunnel lasts.
    if destination is None:
        await visit.farewell(b"")
    else:
        await visit.relay(destination, CONNECTION_ESTABLISHED, _refusal)


async def _serve_requests(visit: Visit) -> Destination | None:
    """Serve plain requests; the destination once one is a CONNECT, None when all is over."""
    options = visit.house.options
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=options.max_head - 1)
    while True:
        request = await _next_request(visit, server)
        if request is None:
            return None
        _check_credentials(options.credentials, request)
        if request.method == b"CONNECT":
            return _tunnel_destination(server, request)
        await _forward(visit, server, request)
        if server.our_state is not h11.DONE or server.their_state is not h11.DONE:
            return None
        server.start_next_cycle()
        if not server.trailing_data[0]:
            await visit.rest()


async def _next_request(visit: Visit, server: h11.Connection) -> h11.Request | None:
    """The next head, or None when the client left."""
    try:
        while (event := server.next_event()) is h11.NEED_DATA:
            server.receive_data(await _more_head(visit, server))
    except h11.RemoteProtocolError as error:
        status = error.error_status_hint
        known = status if status in _STATUS else BAD_REQUEST
        raise _RefusedError(known, "the request is not proper HTTP/1.1") from error
    except ProtocolError:
        return None
    visit.relax()
    return event if isinstance(event, h11.Request) else None


async def _more_head(visit: Visit, server: h11.Connection) -> bytes:
    """A whole head without the byte behind it: that may belong to a tunnel's payload."""
    if server.trailing_data[0]:  # a pipelined head began in what was read as a body
        return await receive(visit.stream, visit.house.account)
    limit = visit.house.options.max_head

    def parse_head(data: bytes) -> tuple[bytes, int] | None:
        end = _HEAD_END.search(data)
        length = end.end() if end else len(data)
        return (data[:length], length) if end or length >= limit else None

    return await visit.take(parse_head, limit)


def _check_credentials(credentials: Credentials | None, request: h11.Request) -> None:
    if credentials is None:
        return
    for name, value in request.headers:
        if name == b"proxy-authorization":
            shown = parse_basic(value)
            if shown is not None and credentials.match(*shown):
                return
    raise _RefusedError(407, "this proxy wants a user name and a password", _CHALLENGE)


def _tunnel_destination(server: h11.Connection, request: h11.Request) -> Destination:
    try:
        destination = parse_authority(request.target)
    except ProtocolError as error:
        raise _RefusedError(BAD_REQUEST, str(error)) from error
    server.next_event()
    if server.trailing_data[0]:
        raise _RefusedError(BAD_REQUEST, "a CONNECT must not follow in one breath")
    return destination


def _target(request: h11.Request) -> Target:
    if request.method == b"TRACE":  # it would send the client's cookies back to a script
        raise _RefusedError(405, "TRACE is not served", _ALLOW)
    try:
        return parse_absolute(request.target, request.method)
    except ProtocolError as error:
        raise _RefusedError(BAD_REQUEST, str(error)) from error


async def _forward(visit: Visit, server: h11.Connection, request: h11.Request) -> None:
    """Fetch from the origin; raises _RefusedError only while nothing was answered."""
    target = _target(request)
    account = visit.house.account
    await account.reserve(EXCHANGE_COST)
    try:
        origin = await visit.house.dispatcher.open(target.destination)
        await Exchange(visit, server, origin).run(request, target)
    except CircumventError as error:
        if server.our_state is not h11.SEND_RESPONSE:
            raise
        if server.their_state is h11.ERROR:
            raise _RefusedError(BAD_REQUEST, "the request broke off") from error
        raise _RefusedError(*_explained(error)) from error
    finally:
        account.discharge(EXCHANGE_COST)


def _refusal(error: CircumventError) -> bytes:
    status, text = _explained(error)
    return plain_response(_STATUS[status], text)


def _explained(error: CircumventError) -> tuple[int, str]:
    """Status and text for what kept us from the origin; neither names it."""
    if isinstance(error, DestinationError):
        return (504 if error.reason is Reason.TIMED_OUT else 502), str(error)
    if isinstance(error, NoTunnelError):
        return 503, "no tunnel is up"
    return 502, "the tunnel failed before the destination answered"
