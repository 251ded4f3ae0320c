"""The cover site: a directory that is served in this process, or a web server elsewhere."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from circumvent.api.streams import ByteStream
from circumvent.errors import CircumventError
from circumvent.layers.exchange import receive, send
from circumvent.memory import Account
from circumvent.net.happy_eyeballs import connect_any
from circumvent.net.resolver import Resolver
from circumvent.net.sockets import SocketBuffers
from circumvent.relay.cover.pipe import CoverSitePipe
from circumvent.wire.address import Destination
from circumvent.wire.request_watch import MAX_HEAD

# The most bytes that a visitor of a directory costs: a head of 40 lines, and three pieces of a file
# (read from disk, in the pipe, not yet taken).
DIRECTORY_COST = 256 * 1024
NAME_SECONDS = 5.0  # to ask the site for its name
HEAD_SECONDS = 60.0  # nginx's default for a request's head
_SERVER = re.compile(rb"\r\nServer: ([\x20-\x7e]+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CoverSite:
    """``connect`` opens a connection to the site, and raises DialError.

    ``cost`` is what a visitor costs in bytes, outside of the arena.
    """

    connect: Callable[[], Awaitable[ByteStream]]
    cost: int = 0


async def server_name(site: CoverSite, account: Account) -> bytes:
    """The site's Server header; empty when it sends none or does not answer."""
    try:
        async with asyncio.timeout(NAME_SECONDS):
            pipe = await site.connect()
            try:
                await send(pipe, account, b"HEAD / HTTP/1.0\r\n\r\n")
                answer = b""
                while b"\r\n\r\n" not in answer and len(answer) < MAX_HEAD:
                    if not (more := await receive(pipe, account)):
                        break
                    answer += more
            finally:
                pipe.abort()
    except (CircumventError, TimeoutError):
        return b""
    name = _SERVER.search(answer)
    return name[1] if name else b""


@asynccontextmanager
async def open_site(place: Destination | Path, buffers: SocketBuffers) -> AsyncIterator[CoverSite]:
    """Open the site at ``place``; a directory is served while the context lasts."""
    if isinstance(place, Path):
        async with serve_directory(place) as served:
            yield served
    else:
        yield site_at(place, buffers)


def site_at(place: Destination, buffers: SocketBuffers) -> CoverSite:
    """The site that a web server at ``place`` serves."""
    resolver = Resolver()

    async def connect() -> ByteStream:
        return await connect_any(await resolver.resolve(place.host), place.port, buffers)

    return CoverSite(connect)


@asynccontextmanager
async def serve_directory(
    directory: Path, head_seconds: float = HEAD_SECONDS
) -> AsyncIterator[CoverSite]:
    """Serve the files in ``directory`` while the context lasts.

    A visitor has ``head_seconds`` for a request's head, and as long until the next one.
    """
    from circumvent.relay.cover.files import make_runner  # noqa: PLC0415 - imports aiohttp

    runner = make_runner(directory, head_seconds)
    await runner.setup()
    server = runner.server
    assert server is not None  # noqa: S101 - for the checker

    async def connect() -> ByteStream:
        return CoverSitePipe(server())

    try:
        yield CoverSite(connect, DIRECTORY_COST)
    finally:
        await runner.cleanup()
