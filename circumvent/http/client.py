"""HTTP over the Dialer: an ``aiohttp`` session whose connections are our streams.

One TLS stack, one resolver and one budget serve it like everything else. ``aiohttp`` itself, 25 MB
of code and tables, is imported when the first session is made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from circumvent.api import Cost, Dialer, TlsOptions
from circumvent.errors import ProtocolError
from circumvent.http.limits import MAX_HEAD, MAX_UNSENT, READ_BUFFER
from circumvent.layers.costs import INNER_TLS_COST
from circumvent.memory import Account

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

# A session, and for each of its connections: TLS, twice the read buffer and what one more read
# brings, a head, what waits to be written. (Measured, session and connection with TLS on a socket
# whose answer nobody reads: 116 KiB.)
_SESSION = 16 * 1024
_CONNECTION = INNER_TLS_COST.stream + 4 * READ_BUFFER + MAX_HEAD + MAX_UNSENT


def http_cost(connections: int) -> Cost:
    """The most that a session with so many connections allocates outside of the arena."""
    size = _SESSION + connections * _CONNECTION
    return Cost(dial=size, stream=size)


def web_tls(host: str) -> TlsOptions:
    """TLS as web servers want it."""
    return TlsOptions(host, alpn=("http/1.1",))


def http_client(
    dialer: Dialer,
    account: Account,
    *,
    connections: int = 1,
    tls: Callable[[str], TlsOptions] = web_tls,
    headers: Mapping[str, str] | None = None,
) -> AbstractAsyncContextManager[ClientSession]:
    """A session over ``dialer`` that holds at most so many connections at a time.

    ``tls`` says how to start TLS with a host: pins, no SNI. To go through a front, ask for the
    front's URL with the hidden host in a ``Host`` header. Nothing is decompressed, no cookies are
    kept, and nothing names the program unless ``headers`` do. Bodies are given in pieces of
    16 KiB at most: those far larger than ``MAX_UNSENT`` are refused.

    Its requests raise DialError, HandshakeError and what aiohttp raises; a broken connection is
    an ``aiohttp.ClientError``. Charge ``http_cost(connections)`` before.
    """
    from circumvent.http.connector import open_session  # noqa: PLC0415 - imports aiohttp

    return open_session(dialer, account, connections=connections, tls=tls, headers=headers)


async def limited_body(response: ClientResponse, limit: int) -> AsyncIterator[bytes]:
    """The pieces of a body of at most ``limit`` bytes; raises ProtocolError when it is larger."""
    length = response.content_length or 0
    async for piece in response.content.iter_any():
        length = max(length, response.content.total_bytes)
        if length > limit:
            raise ProtocolError(
                f"the server sends more than the {limit} bytes that are allowed", stage="read"
            )
        yield piece
