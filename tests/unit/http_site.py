"""A web site that answers by path, and how clients of the inbound ask it."""

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import unquote_to_bytes

import h11

from tests.unit.inbound_client import RESET, SITE, Client

BIG = 3_000_000
OK = b"HTTP/1.1 200 OK\r\n"
TRAILED = b"5\r\nhello\r\n" * 3 + b"0\r\nX: y\r\n\r\n"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


async def site(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers by path; what it saw of the request's head is the body of most answers."""
    head = await reader.readuntil(b"\r\n\r\n")
    path = head.split(b" ", 2)[1].partition(b"?")[0]
    await ROUTES.get(path, show)(reader, writer, head)
    await writer.drain()


async def show(_: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))


async def summed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
    """The digest of the body, decoded by a second opinion on HTTP."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(head)
    digest = hashlib.sha256()
    server.next_event()
    if server.they_are_waiting_for_100_continue:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    while not isinstance(event := server.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            digest.update(event.data)
        else:
            server.receive_data(await reader.read(65536))
    text = digest.hexdigest().encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))


async def early(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")


async def chunked(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + TRAILED)


async def until_close(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.0 200 OK\r\n\r\nold style")


async def big(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + b"x" * BIG)


async def truncated(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")


async def nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter, ___: bytes) -> None:
    """Leave without an answer."""


async def no_content(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def not_modified(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\nETag: x\r\n\r\n")


async def hop_by_hop(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-Case: kept\r\n"
        b"Keep-Alive: 5\r\nContent-Length: 0\r\n\r\n"
    )


async def odd(__: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
    """Say what the query says, and leave as it says."""
    words = unquote_to_bytes(head.split(b" ", 2)[1].partition(b"?")[2])
    words, resets, _ = words.partition(b"RESET")
    writer.write(words)
    await writer.drain()
    if resets:
        sock: socket.socket = writer.get_extra_info("socket")
        await asyncio.sleep(0.02)  # a reset overtakes what is not read yet
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nready "
    )
    while data := await reader.read(1000):
        writer.write(data)


ROUTES: dict[bytes, Handler] = {
    b"/sum": summed,
    b"/early": early,
    b"/chunked": chunked,
    b"/old": until_close,
    b"/big": big,
    b"/truncated": truncated,
    b"/nothing": nothing,
    b"/204": no_content,
    b"/304": not_modified,
    b"/hop": hop_by_hop,
    b"/odd": odd,
    b"/upgrade": upgrade,
}


def ask(port: int, path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    first = f"{method} http://{SITE}:{port}{path} HTTP/{version}"
    return "\r\n".join([first, "Host: a.lie", *headers, "", ""]).encode()


async def answer(client: Client, method: bytes = b"GET") -> tuple[h11.Response, bytes]:
    """One response as a second opinion on HTTP reads it; the connection stays usable."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    parser.send(h11.EndOfMessage())
    body = b""
    response: h11.Response | None = None
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            parser.receive_data(await client.reader.read(65536))
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert response is not None
            assert parser.trailing_data[0] == b""
            return response, body
