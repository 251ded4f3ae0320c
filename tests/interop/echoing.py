"""Bytes of several sizes through an echo, both ways at the same time."""

from __future__ import annotations

import asyncio
import hashlib
import os

from circumvent.api import ByteStream
from circumvent.testing.steps import read_once, settle, write_all

PIECE = 1 << 20
SIZES = (0, 1, 1 << 20, 100_000_000)


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
