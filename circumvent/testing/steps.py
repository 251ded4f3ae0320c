"""The steps of tests of streams: read, write, fill, wait; both ends of a stream under test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from dataclasses import dataclass

import pytest

from circumvent.api import ByteStream, StreamResetError
from circumvent.memory import LARGEST, PAGE
from circumvent.testing.far_end import FarEnd

CANARY = 0xA5
GIVE_UP_AFTER = 30.0  # seconds; nothing here takes one where nothing else runs
FEW = 63  # bytes beyond the smallest buffer: some streams read no more than that at a time


@dataclass(frozen=True, slots=True)
class Pair:
    """The stream under test and the other end of it."""

    near: ByteStream
    far: FarEnd


async def read_once(stream: ByteStream, size: int = LARGEST) -> bytes:
    """The next bytes, into a buffer of ``size``; empty at the end."""
    block = memoryview(bytearray(size))
    async with asyncio.timeout(GIVE_UP_AFTER):
        while True:
            await stream.wait_readable()
            count = stream.read_into(block)
            if count is not None:
                return bytes(block[:count])
            await asyncio.sleep(0)


async def read_all(stream: ByteStream, size: int = LARGEST) -> bytes:
    data = b""
    while more := await read_once(stream, size):
        data += more
    return data


async def read_until_cut(stream: ByteStream) -> bytes:
    """What comes before the error that says that the stream was cut."""
    data = bytearray()
    with pytest.raises(StreamResetError) as cut:
        await _read_on(stream, data)
    assert cut.value.stage == "read"
    return bytes(data)


async def _read_on(stream: ByteStream, data: bytearray) -> None:
    while True:
        more = await read_once(stream)
        assert more, "a cut looked like the end"
        data += more


async def read_exactly(stream: ByteStream, wanted: int, size: int = LARGEST) -> bytes:
    data = b""
    while len(data) < wanted:
        more = await read_once(stream, size)
        assert more, "the stream ended early"
        data += more
    assert len(data) == wanted
    return data


def take(stream: ByteStream, data: bytes) -> int:
    """Offer ``data`` in a block of its own, which must stay untouched around what is offered."""
    front, start = PAGE, PAGE + stream.headroom
    end = start + len(data)
    block = memoryview(bytearray((CANARY,)) * (end + PAGE))
    block[start:end] = data
    taken = stream.write(block, start, end)
    assert 0 <= taken <= len(data)
    untouched = bytes(block[:front]) + bytes(block[end:])
    assert untouched == bytes((CANARY,)) * len(untouched), "wrote outside of its room"
    rehome(stream)
    block[:] = bytes(len(block))  # whoever still looks here sends zeros
    return taken


def rehome(stream: ByteStream) -> None:
    if stream.unsent is not None:
        stream.unsent = memoryview(bytearray(stream.unsent))


async def settle(stream: ByteStream) -> None:
    async with asyncio.timeout(GIVE_UP_AFTER):
        while not stream.flush():
            await stream.wait_writable()


async def write_all(stream: ByteStream, data: bytes, piece: int = LARGEST // 2) -> None:
    """Write the way the pump does: when there is room, and settle what the kernel refused."""
    async with asyncio.timeout(GIVE_UP_AFTER):
        while data:
            await settle(stream)
            if not stream.room():
                await stream.wait_writable()
                continue
            data = data[take(stream, data[:piece]) :]
            await settle(stream)


async def fill(stream: ByteStream) -> bytes:
    """Write until there is no room, to a peer that does not read; returns what was taken."""
    written = b""
    while True:
        while stream.room():
            data = os.urandom(PAGE)
            written += data[: take(stream, data)]
            assert len(written) < 64 * LARGEST, "room() never ends"
        for _ in range(4):  # the kernel may pass a little more on, at its leisure
            await asyncio.sleep(0.002)
            stream.flush()
            if stream.room():
                break
        else:
            return written


async def both(*awaitables: Awaitable[object]) -> list[object]:
    async with asyncio.timeout(GIVE_UP_AFTER):
        return list(await asyncio.gather(*awaitables))


async def blocked(waiter: Awaitable[None]) -> asyncio.Task[None]:
    """``waiter`` in a task, after a while in which it had the chance to return."""

    async def wait() -> None:
        await waiter

    task = asyncio.get_running_loop().create_task(wait())
    await asyncio.sleep(0.004)
    return task
