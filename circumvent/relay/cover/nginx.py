"""How nginx meets what is no TLS on its port for TLS, and TLS that is for no protocol of its own.

Measured with nginx 1.22 as Debian configures it, and read in its ``ngx_http_request.c`` and
``ngx_http_special_response.c``: whatever does not begin as TLS is read as HTTP by the usual rules,
and a request that would be answered otherwise gets a page of its own.
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
LINGER_SECONDS = 5.0  # after the answer, for what is still on its way
_SSL2 = 0x80  # the highest bit of the first byte: a ClientHello in the format of SSL 2
_NO_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"  # an alert (RFC 7301 §3.2)
_MOST_OF_A_HELLO = MAX_FLIGHT + 5
_TLS = bytes((HANDSHAKE_RECORD,))
_HTTP = b"HTTP/1."
_HEAD_END = b"\r\n\r\n"
_MOST_OF_A_HEAD = 32 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_DATE = re.compile(rb"\r\nDate: ([^\r\n]+)")
# What it says before it matters whether there is TLS: it cannot read the request, or never would.
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


async def first_words(stream: TcpStream, account: Account) -> tuple[bytes, Sequence[bytes]]:
    """What is there, a ClientHello as a whole, and the protocols that it offers.

    All of it stays in the kernel. Raises StreamResetError.
    """
    limit, seen, offer = _MOST_OF_A_HELLO, 0, Offer()
    words = await peek(stream, account, limit)
    offered: Sequence[bytes] | None = None
    while words[:1] == _TLS and len(words) > seen and (offered := offer.read(words)) is None:
        if len(words) == _MOST_OF_A_HELLO == limit:
            limit = LARGEST
        else:
            seen = len(words)
            stream.expect(seen + 1)
        words = await peek(stream, account, limit)
    if seen:
        stream.expect(1)
    return words, offered or ()


def is_tls(words: bytes) -> bool:
    """Whether TLS may begin so; also what is nothing at all."""
    return not words or words[0] == HANDSHAKE_RECORD or words[0] >= _SSL2


def is_for_another(offered: Sequence[bytes]) -> bool:
    """Whether it asks for protocols, and for none of nginx's."""
    return bool(offered) and not _KNOWN.intersection(offered)


async def refuse_protocol(
    stream: TcpStream, account: Account, words: bytes, context: ssl.SSLContext
) -> None:
    """Break the handshake off; raises StreamResetError."""
    stream.discard(len(words))
    await send(stream, account, _refusal(words, context))


def _refusal(words: bytes, context: ssl.SSLContext) -> bytes:
    """An alert; protocols are looked at last, so what is wrong besides is told instead."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(words)
    with contextlib.suppress(ssl.SSLError):
        context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    said = outgoing.read()
    return said if said[:1] == _NO_PROTOCOL[:1] else _NO_PROTOCOL


async def answer_plain(
    visitor: ByteStream, site: ByteStream, account: Account, server: bytes
) -> None:
    """Let ``site``, an nginx that calls itself ``server``, read HTTP that came without TLS.

    What it cannot read, and when it loses patience, it says itself; owns ``site``. Raises
    StreamResetError.
    """
    heard = bytearray()
    asking = asyncio.ensure_future(_ask(visitor, site, account, heard))
    try:
        answer = await _begin_of_answer(site, account)
        if _is_its_own(answer, bytes(heard)):
            await send(visitor, account, answer)
            await transfer(site, visitor, account, lambda _: None)
        elif answer:
            await send(visitor, account, _page(answer, bytes(heard), server))
        visitor.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await asking
                while await receive(visitor, account):
                    pass
    finally:
        await dismiss((asking,))
        site.abort()


async def _ask(visitor: ByteStream, site: ByteStream, account: Account, heard: bytearray) -> None:
    with contextlib.suppress(StreamResetError):  # the site has heard enough
        while data := await receive(visitor, account):
            heard += data[: _MOST_OF_A_HEAD - len(heard)]
            await send(site, account, data)
        site.write_eof()


async def _begin_of_answer(site: ByteStream, account: Account) -> bytes:
    """Its head, with whatever came with that; less when the site closed, nothing if it broke."""
    answer = b""
    try:
        while _HEAD_END not in answer and len(answer) < _MOST_OF_A_HEAD:
            more = await receive(site, account)
            answer += more
            if not more or not _HTTP.startswith(answer[: len(_HTTP)]):
                break
    except StreamResetError:
        return b""
    return answer


def _is_its_own(answer: bytes, heard: bytes) -> bool:
    """Whether nginx says that on every port."""
    status = _STATUS.match(answer)
    if status is None:
        return False
    return status[1] in _UNREADABLE or (
        status[1] == _NOT_ALLOWED and heard.lstrip().startswith(_NEVER_ALLOWED)
    )


def _page(answer: bytes, heard: bytes, server: bytes) -> bytes:
    page = _PAGE % server
    if any(name in heard for name in _PADDED_FOR):
        page += _PADDING
    date = _DATE.search(answer)
    if date is None:  # HTTP/0.9 knows no heads
        return page
    head = _ANSWER % (server, date[1], len(page))
    return head if heard.lstrip().startswith(b"HEAD ") else head + page
