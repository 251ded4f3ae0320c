"""Bytes of several sizes through an echo, both ways at the same time."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from circumvent.api import ByteStream
from circumvent.testing.steps import read_once, settle, write_all
from tests.peers.services import HOST

PIECE = 1 << 20
SIZES = (0, 1, 1 << 20, 100_000_000)
Visit = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


@asynccontextmanager
async def serving(visit: Visit, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Its port; what is still connected at the end is cut."""
    visits: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits[asyncio.ensure_future(visit(reader, writer))] = writer

    async with await asyncio.start_server(start, HOST, 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        for task, writer in visits.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*visits, return_exceptions=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 18):
        writer.write(data)
        await writer.drain()
    writer.close()


async def assert_echoed(stream: ByteStream, size: int) -> None:
    """Both ways at the same time, whole, with an end of ours before that of the other side."""
    data = os.urandom(size)

    async def send() -> None:
        for at in range(0, size, PIECE):
            await write_all(stream, data[at : at + PIECE])
        stream.write_eof()
        await settle(stream)

    async def receive() -> bytes:
        digest = hashlib.sha256()
        while piece := await read_once(stream):
            digest.update(piece)
        return digest.digest()

    _, back = await asyncio.gather(send(), receive())
    assert back == hashlib.sha256(data).digest()
