"""The pump: moves bytes from one stream to another, one leased block a step.

It leases only when the source is readable and the sink has room, and gives the block back in
the same turn of the loop. So an idle or stalled stream holds nothing: its data waits in the
kernel. Only what a sink took and the kernel then refused is kept, in a hold lease of its size.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from circumvent.api.exchange import keep_unsent
from circumvent.api.streams import ByteStream
from circumvent.memory import LARGEST, Account

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
        try:
            start = sink.headroom
            count = source.read_into(lease.view[start:])
            if count is None:
                continue
            if count == 0:
                sink.write_eof()
                return
            end = start + count
            space = len(lease.view) - start
            while start < end:
                start += sink.write(lease.view, start, end)
                if sink.unsent is not None or start < end:
                    await _settle(sink, account)
        finally:
            lease.release()
        meter.moved(count)
        wanted, full = _next_size(wanted, count, space - source.record)
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


async def _settle(sink: ByteStream, account: Account) -> None:
    """Wait until nothing is unsent, in a hold lease where there is room for one."""
    hold = keep_unsent(sink, account)
    try:
        while not sink.flush():
            await sink.wait_writable()
    finally:
        if hold is not None:
            sink.unsent = None
            hold.release()
