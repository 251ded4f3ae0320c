"""The pump: moves bytes from one stream to another, one leased block a step.

It leases only when the source is readable and the sink has room, and gives the block back in
the same turn of the loop. So an idle or stalled stream holds nothing: its data waits in the
kernel. Only what a sink took and the kernel then refused is kept, in a hold lease of its size.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from circumvent.api.streams import ByteStream
from circumvent.memory import LARGEST, Account, Lease

FIRST_READ = 16 * 1024  # one TLS record: most first flights and answers fit
_TURN = 4  # full blocks in a row before other streams get a turn of the loop


class Meter(Protocol):
    """Is told what moves; ``moved`` runs once a step."""

    def moved(self, count: int) -> None:
        """``count`` bytes were taken by the sink."""
        ...


async def pump(source: ByteStream, sink: ByteStream, account: Account, meter: Meter) -> None:
    """Move bytes until the source ends, then end the sink's side.

    Raises whatever the streams raise; neither stream is closed.
    """
    wanted = FIRST_READ
    turns = 0
    while True:
        await source.wait_readable()
        room = sink.room()
        if not room:
            await sink.wait_writable()
            continue
        floor = sink.headroom + source.record
        most = min(sink.headroom + max(source.record, min(wanted, room)), LARGEST)
        lease = account.try_step(floor, most) or await account.step(floor, most)
        start = sink.headroom
        try:
            space = len(lease.view) - start - source.record
            count = source.read_into(lease.view[start:])
            if count:
                end = start + count
                start += sink.write(lease.view, start, end)
                if start < end or sink.unsent is not None:
                    lease, start, end = _keep(lease, sink, account, start, end)
                    await _settle(lease.view, sink, start, end)
        except BaseException:
            sink.unsent = None  # the block goes back: nobody may look at it again
            raise
        finally:
            lease.release()
        if count is None:
            continue
        if count == 0:
            sink.write_eof()
            return
        meter.moved(count)
        wanted, full = _next_size(wanted, count, space)
        turns = turns + 1 if full else 0
        if turns == _TURN:
            turns = 0
            await asyncio.sleep(0)


def _next_size(wanted: int, count: int, space: int) -> tuple[int, bool]:
    """Double what was filled, halve what was hardly used; and whether it was filled."""
    if count >= space:
        return min(2 * wanted, LARGEST), True
    if count < wanted // 4:
        return max(wanted // 2, FIRST_READ), False
    return wanted, False


def _keep(
    step: Lease, sink: ByteStream, account: Account, start: int, end: int
) -> tuple[Lease, int, int]:
    """Move what the sink did not send, and what it did not take, to a hold lease.

    Returns the lease that now holds it, and where the part not taken starts and ends.
    Raises BudgetError when there is no room even after others made some.
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


async def _settle(block: memoryview, sink: ByteStream, start: int, end: int) -> None:
    """Wait until everything is taken and sent."""
    while not sink.flush() or start < end:
        if sink.unsent is None and sink.room():
            start += sink.write(block, start, end)
        else:
            await sink.wait_writable()
