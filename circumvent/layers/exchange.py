"""Small exchanges outside the pump: probes, requests, replies, handshakes.

``send``, ``receive`` and ``peek`` take one lease of an account for each step. Layers have no
account while they start: ``send_flight`` and ``receive_flight`` work without one, in a few KiB
that all of them share.
"""

from __future__ import annotations

from circumvent.api.streams import ByteStream, PeekStream
from circumvent.layers.backlog import Backlog
from circumvent.memory import LARGEST, PAGE, Account, anonymous

FLIGHT = 4096  # a server's certificates, or the head of an answer, in one or two reads

# Nothing stays in it between two steps, so all streams share it; what was never used of it
# costs nothing.
_SCRATCH = memoryview(anonymous(LARGEST))


async def send(stream: ByteStream, account: Account, data: bytes) -> None:
    """Write all of ``data``; raises StreamResetError.

    Nothing is leased while it waits. What the kernel did not take is copied: it is no more than
    the caller holds anyway.
    """
    rest = memoryview(data)
    while not stream.flush() or rest:
        if stream.room():
            rest = rest[await _send_some(stream, account, rest) :]
        else:
            await stream.wait_writable()


async def _send_some(stream: ByteStream, account: Account, data: memoryview) -> int:
    start = stream.headroom
    end = min(start + len(data), start + stream.room(), LARGEST)
    with await account.step(end, end) as lease:
        lease.view[start:end] = data[: end - start]
        try:
            taken = stream.write(lease.view, start, end)
            if stream.unsent is not None:
                stream.unsent = memoryview(bytes(stream.unsent))
        except BaseException:
            stream.unsent = None  # the block goes back: nobody may look at it again
            raise
    return taken


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


async def send_flight(stream: ByteStream, data: bytes) -> None:
    """Send all of ``data``; raises StreamResetError."""
    backlog = Backlog(stream)
    backlog.add(data)
    while not backlog.flush():
        await stream.wait_writable()


async def receive_flight(stream: ByteStream) -> bytes:
    """What is there, about ``FLIGHT`` bytes; waits for the first; empty at the end of file.

    Raises StreamResetError, ProtocolError.
    """
    while True:
        await stream.wait_readable()
        data = receive_some(stream)
        if data is not None:
            return data


def receive_some(stream: ByteStream) -> bytes | None:
    """What is there, about ``FLIGHT`` bytes; None without any, empty at the end of file.

    Raises StreamResetError, ProtocolError.
    """
    count = stream.read_into(_SCRATCH[: max(stream.record, FLIGHT)])
    return None if count is None else bytes(_SCRATCH[:count])
