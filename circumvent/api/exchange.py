"""Small exchanges outside the pump: handshakes, probes, replies. Each takes one step lease."""

from __future__ import annotations

from circumvent.api.streams import ByteStream, PeekStream
from circumvent.memory import PAGE, Account


async def send(stream: ByteStream, account: Account, data: bytes) -> None:
    """Write all of ``data`` (at most a block's worth); raises StreamResetError."""
    start = stream.headroom
    end = start + len(data)
    with await account.step(end, end) as lease:
        lease.view[start:end] = data
        try:
            while not stream.flush() or start < end:
                if stream.room():
                    start += stream.write(lease.view, start, end)
                else:
                    await stream.wait_writable()
        except BaseException:
            stream.unsent = None  # the block goes back: nobody may look at it again
            raise


async def receive(stream: ByteStream, account: Account, limit: int = PAGE) -> bytes:
    """What is there, up to ``limit`` bytes; waits for the first; empty at the end of file.

    Raises StreamResetError, ProtocolError.
    """
    size = max(limit, stream.record)
    while True:
        await stream.wait_readable()
        with await account.step(size, size) as lease:
            count = stream.read_into(lease.view if stream.record > limit else lease.view[:limit])
            if count is not None:
                return bytes(lease.view[:count])


async def peek(stream: PeekStream, account: Account, limit: int = PAGE) -> bytes:
    """As ``receive``, but the bytes stay in the kernel."""
    while True:
        await stream.wait_readable()
        with await account.step(limit, limit) as lease:
            count = stream.peek_into(lease.view[:limit])
            if count is not None:
                return bytes(lease.view[:count])
