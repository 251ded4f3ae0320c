"""Answers as nginx does on its TLS port: to bytes that are not TLS, and to unknown ALPN protocols.

Measured with nginx 1.22 as Debian configures it, and read in its ``ngx_http_request.c`` and
``ngx_http_special_response.c``. nginx reads what does not begin as TLS as plain HTTP. It
reports its usual errors, and answers any other request with a page: the port is for HTTPS.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Sequence

from circumvent.api.streams import ByteStream
from circumvent.errors import StreamResetError
from circumvent.layers.exchange import peek, receive, send
from circumvent.memory import LARGEST, Account
from circumvent.net.pump import transfer
from circumvent.net.tcp import TcpStream
from circumvent.tasks import dismiss
from circumvent.wire.client_hello import HANDSHAKE_RECORD, MAX_FLIGHT, Offer

PROTOCOLS = ("http/1.1", "http/1.0", "http/0.9")  # without "http2 on"
CIPHERS = "HIGH:!aNULL:!MD5"  # below TLS 1.3
NAME = b"nginx"
_KNOWN = frozenset(protocol.encode() for protocol in PROTOCOLS)
LINGER_SECONDS = 5.0  # after the answer, for what the visitor still sends
_SSL2 = 0x80  # the highest bit of the first byte: a ClientHello in the format of SSL 2
_NO_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"  # an alert (RFC 7301 §3.2)
_USUAL_HELLO = MAX_FLIGHT + 5
_TLS = bytes((HANDSHAKE_RECORD,))
_HTTP = b"HTTP/1."
_HEAD_END = b"\r\n\r\n"
_MAX_HEAD = 32 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_DATE = re.compile(rb"\r\nDate: ([^\r\n]+)")
# What nginx reports before it checks for TLS: it cannot read the request, or never allows it.
_UNREADABLE = frozenset((b"400", b"414", b"501", b"505"))
_NOT_ALLOWED, _NEVER_ALLOWED = b"405", (b"TRACE ", b"CONNECT ")
_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nServer: %b\r\nDate: %b\r\nContent-Type: text/html\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n"
)
_PAGE = (
    b"<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n"
    b"<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n"
    b"<center>The plain HTTP request was sent to HTTPS port</center>\r\n"
    b"<hr><center>%b</center>\r\n</body>\r\n</html>\r\n"
)
_PADDED_FOR = (b"Chrome/", b"MSIE ")
_PADDING = b"<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n" * 6


async def peek_hello(stream: TcpStream, account: Account) -> tuple[bytes, Sequence[bytes]]:
    """The first bytes (a ClientHello as a whole), and the ALPN protocols that it offers.

    The bytes stay unread in the kernel. Raises StreamResetError.
    """
    limit, seen, offer = _USUAL_HELLO, 0, Offer()
    data = await peek(stream, account, limit)
    offered: Sequence[bytes] | None = None
    while data[:1] == _TLS and len(data) > seen and (offered := offer.read(data)) is None:
        if len(data) == _USUAL_HELLO == limit:
            limit = LARGEST
        else:
            seen = len(data)
            stream.expect(seen + 1)
        data = await peek(stream, account, limit)
    if seen:
        stream.expect(1)
    return data, offered or ()


def is_tls(data: bytes) -> bool:
    """Whether ``data`` may begin a TLS connection; true for no data, too."""
    return not data or data[0] == HANDSHAKE_RECORD or data[0] >= _SSL2


def asks_other_protocols(offered: Sequence[bytes]) -> bool:
    """Whether a client offers ALPN protocols, and none that nginx speaks."""
    return bool(offered) and not _KNOWN.intersection(offered)


async def refuse_protocol(
    stream: TcpStream, account: Account, data: bytes, context: ssl.SSLContext
) -> None:
    """Answer the ClientHello ``data`` with an alert; raises StreamResetError."""
    stream.discard(len(data))
    await send(stream, account, _refusal(data, context))


def _refusal(data: bytes, context: ssl.SSLContext) -> bytes:
    """The alert of RFC 7301 §3.2, or OpenSSL's for another error: nginx checks protocols last."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(data)
    with contextlib.suppress(ssl.SSLError):
        context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    answer = outgoing.read()
    return answer if answer[:1] == _NO_PROTOCOL[:1] else _NO_PROTOCOL


async def answer_plain(
    visitor: ByteStream, site: ByteStream, account: Account, server: bytes
) -> None:
    """Answer HTTP that came without TLS, with the help of ``site``: an nginx named ``server``.

    The request is passed on to the site, so its errors and timeouts are the site's own. Owns
    ``site``. Raises StreamResetError.
    """
    request = bytearray()
    asking = asyncio.ensure_future(_pass_on(visitor, site, account, request))
    try:
        answer = await _read_head(site, account)
        if _is_independent_of_tls(answer, bytes(request)):
            await send(visitor, account, answer)
            await transfer(site, visitor, account, lambda _: None)
        elif answer:
            await send(visitor, account, _page(answer, bytes(request), server))
        visitor.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await asking
                while await receive(visitor, account):
                    pass
    finally:
        await dismiss((asking,))
        site.abort()


async def _pass_on(
    visitor: ByteStream, site: ByteStream, account: Account, request: bytearray
) -> None:
    with contextlib.suppress(StreamResetError):  # the site may answer before it has read all
        while data := await receive(visitor, account):
            request += data[: _MAX_HEAD - len(request)]
            await send(site, account, data)
        site.write_eof()


async def _read_head(site: ByteStream, account: Account) -> bytes:
    """The head of the site's answer, and what came with it.

    Incomplete when the site closed early or sends no head, empty when it reset the connection.
    """
    answer = b""
    try:
        while _HEAD_END not in answer and len(answer) < _MAX_HEAD:
            more = await receive(site, account)
            answer += more
            if not more or not _HTTP.startswith(answer[: len(_HTTP)]):
                break
    except StreamResetError:
        return b""
    return answer


def _is_independent_of_tls(answer: bytes, request: bytes) -> bool:
    """Whether nginx gives this answer on every port, with TLS or without."""
    status = _STATUS.match(answer)
    if status is None:
        return False
    return status[1] in _UNREADABLE or (
        status[1] == _NOT_ALLOWED and request.lstrip().startswith(_NEVER_ALLOWED)
    )


def _page(answer: bytes, request: bytes, server: bytes) -> bytes:
    page = _PAGE % server
    if any(name in request for name in _PADDED_FOR):
        page += _PADDING
    date = _DATE.search(answer)
    if date is None:  # an answer of HTTP/0.9 has no head
        return page
    head = _ANSWER % (server, date[1], len(page))
    return head if request.lstrip().startswith(b"HEAD ") else head + page
