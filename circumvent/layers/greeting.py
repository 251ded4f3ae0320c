"""Exchanges while a layer starts, when there is no account yet: a few KiB, one step at a time."""

from __future__ import annotations

import mmap

from circumvent.api.streams import ByteStream
from circumvent.layers.backlog import Backlog
from circumvent.memory import LARGEST

FLIGHT = 4096  # a server's certificates, or the head of an answer, in one or two reads

# Nothing stays in it between two steps, so all streams share it; what was never used of it
# costs nothing.
_SCRATCH = memoryview(mmap.mmap(-1, LARGEST))


async def say(stream: ByteStream, data: bytes) -> None:
    """Send all of ``data``; raises StreamResetError."""
    backlog = Backlog(stream)
    backlog.say(data)
    while not backlog.flush():
        await stream.wait_writable()


async def hear(stream: ByteStream) -> bytes:
    """What is there, about ``FLIGHT`` bytes; waits for the first; empty at the end of file.

    Raises StreamResetError, ProtocolError.
    """
    while True:
        await stream.wait_readable()
        count = stream.read_into(_SCRATCH[: max(stream.record, FLIGHT)])
        if count is not None:
            return bytes(_SCRATCH[:count])
