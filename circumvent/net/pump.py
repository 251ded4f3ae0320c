"""The pump: moves bytes from one stream to another, one leased block a step.

It leases only when the source is readable and the sink has room, and gives the block back in
the same turn of the loop. So an idle or stalled stream holds nothing: its data waits in the
kernel. Only what a sink took and the kernel then refused is kept, in a hold lease of its size;
where there is no room for that, the stream breaks.

Between two connections whose bytes go through as they are, the kernel moves them (``splice``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from circumvent.api.streams import ByteStream
from circumvent.memory import LARGEST, Account, Lease
from circumvent.net.splice import splice
from circumvent.net.tcp import TcpStream

FIRST_READ = 16 * 1024  # one TLS record: most first flights and answers fit
_TURN = 4  # full blocks in a row before other streams get a turn of the loop

Moved = Callable[[int], None]


async def pump(source: ByteStream, sink: ByteStream, account: Account, moved: Moved) -> None:
    """Transfer all bytes, then end the sink's side; raises as ``transfer``."""
    await transfer(source, sink, account, moved)
    sink.write_eof()
    await settle(sink)


async def transfer(source: ByteStream, sink: ByteStream, account: Account, moved: Moved) -> None:
    """Move bytes until the source ends.

    ``moved`` is called after each step with the number of bytes that the sink took. Raises all that
    the streams raise, and BudgetError; neither stream is closed.
    """
    wanted = FIRST_READ
    turns = 0
    while count := await move(source, sink, account, wanted):
        moved(count)
        if count < wanted:
            turns = 0
            wanted = max(wanted // 2, FIRST_READ) if count < wanted // 4 else wanted
            continue
        if await _splice_rest(source.raw_source, sink.raw_sink, moved):
            return
        wanted = min(4 * wanted, LARGEST)
        turns += 1
        if turns == _TURN:
            turns = 0
            await asyncio.sleep(0)


async def _splice_rest(source: ByteStream | None, sink: ByteStream | None, moved: Moved) -> bool:
    """Move bytes inside of the kernel until the source ends; False where that cannot be done."""
    if not (isinstance(source, TcpStream) and isinstance(sink, TcpStream)):
        return False
    turns = 0
    while count := await splice(source, sink):
        moved(count)
        turns += 1
        if turns == _TURN:
            turns = 0
            await asyncio.sleep(0)
    return count == 0


async def move(source: ByteStream, sink: ByteStream, account: Account, wanted: int) -> int:
    """One step: wait, read about ``wanted`` bytes, pass them on; 0 at the source's end.

    Raises as ``transfer``.
    """
    while True:
        await source.wait_readable()
        room = sink.room()
        if not room:
            await sink.wait_writable()
            continue
        start = sink.headroom
        least = source.record
        most = min(start + max(least, min(wanted, room) + source.overhead), LARGEST)
        lease = account.try_step(start + least, most) or await account.step(start + least, most)
        try:
            # The block may be larger than what was asked for. What the sink has no room for would
            # have to be kept for as long as its reader stalls, and many may stall at once.
            is_strict = sink.is_strict or source.is_strict
            limit = most if is_strict else start + max(least, room + source.overhead)
            count = source.read_into(lease.view[start:limit])
            end = start
            if count:
                end += count
                start += sink.write(lease.view, start, end)
        except BaseException:
            sink.unsent = None  # the block goes back, and must not be used again
            lease.release()
            raise
        if start < end or sink.unsent is not None:
            await release_when_sent(lease, sink, account, start, end)
        else:
            lease.release()
        if count is not None:
            return count


async def release_when_sent(
    lease: Lease, sink: ByteStream, account: Account, start: int, end: int
) -> None:
    """Wait until ``sink`` has taken ``block[start:end]`` and sent it; owns ``lease``, the block's.

    What cannot be sent now waits in a hold lease of its size. Raises StreamResetError, BudgetError.
    """
    try:
        if start < end or sink.unsent is not None:
            lease, start, end = keep(lease, sink, account, start, end)
            await finish(lease.view, sink, start, end)
    except BaseException:
        sink.unsent = None  # the block goes back, and must not be used again
        raise
    finally:
        lease.release()


def keep(
    step: Lease, sink: ByteStream, account: Account, start: int, end: int
) -> tuple[Lease, int, int]:
    """Move what the sink did not send, and what it did not take, to a hold lease.

    Returns the lease that now holds it, and where the part not taken starts and ends.
    Raises BudgetError when there is no room; the stream is then lost, but nothing else is.
    """
    unsent = sink.unsent
    tail = len(unsent) if unsent is not None else 0
    rest = end - start
    front = tail + (sink.headroom if rest else 0)
    hold = account.hold(front + rest)
    if unsent is not None:
        hold.view[:tail] = unsent
        sink.unsent = hold.view[:tail]
    hold.view[front : front + rest] = step.view[start:end]
    step.release()
    return hold, front, front + rest


async def settle(sink: ByteStream) -> None:
    """Wait until nothing is unsent; raises StreamResetError."""
    while not sink.flush():
        await sink.wait_writable()


async def finish(block: memoryview, sink: ByteStream, start: int, end: int) -> None:
    """Wait until ``block[start:end]`` is taken and all is sent; raises StreamResetError."""
    await settle(sink)
    while start < end:
        if not sink.room():
            await sink.wait_writable()
        start += sink.write(block, start, end)
        await settle(sink)
