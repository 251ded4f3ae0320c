"""One carrier at work: a task that reads it and one that writes it.

Both follow the pump's rules: a block is leased only when the carrier can be read or written, and
given back in the same turn. What is kept (half a frame, what the kernel refused) is a hold lease.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from circumvent.api.streams import ByteStream
from circumvent.memory import LARGEST, Account, Lease
from circumvent.net.pump import FIRST_READ, finish, keep
from circumvent.session.carriers import Carrier
from circumvent.wire.frames import MAX_FRAME

if TYPE_CHECKING:
    from circumvent.session.session import Session

_TURN = 4  # blocks in a row before others get a turn of the loop


class Link:
    """Drives ``carrier`` over ``stream``, which it owns."""

    __slots__ = ("_account", "_idle", "_session", "_tasks", "carrier", "stream")

    def __init__(
        self, session: Session, carrier: Carrier, stream: ByteStream, account: Account
    ) -> None:
        self.carrier = carrier
        self.stream = stream
        self._session = session
        self._account = account
        self._idle: asyncio.Future[None] | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def start(self, leftover: bytes) -> None:
        """Begin; ``leftover`` came behind the handshake."""
        loop = self._session.loop
        self._tasks = (loop.create_task(self._read(leftover)), loop.create_task(self._write()))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def wake(self) -> None:
        """There is something to write."""
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    @property
    def is_idle(self) -> bool:
        """Whether the writer waits for something to write."""
        return self._idle is not None and not self._idle.done()

    def cut(self) -> None:
        """Stop both tasks and break the pipe."""
        self.stream.abort()
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Return when both tasks have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        self.cut()
        self._session.lose(self, error)

    async def _read(self, leftover: bytes) -> None:
        stream, session = self.stream, self._session
        held: Lease | None = None
        size, wanted, turns = 0, FIRST_READ, 0
        try:
            if leftover:
                rest = leftover[session.receive(self.carrier, memoryview(leftover)) :]
                held, size = self._hold(memoryview(rest))
            while True:
                await stream.wait_readable()
                least = size + stream.record + stream.overhead
                most = min(size + max(wanted, stream.record) + stream.overhead, LARGEST)
                lease = self._account.try_step(least, most) or await self._account.step(least, most)
                try:
                    count = stream.read_into(lease.view[size:])
                    if count == 0:
                        return
                    if count is None:
                        continue
                    if held is not None:
                        lease.view[:size] = held.view[:size]
                        held.release()
                        held = None
                    size += count
                    taken = session.receive(self.carrier, lease.view[:size])
                    held, size = self._hold(lease.view[taken:size])
                finally:
                    lease.release()
                if count < wanted:
                    turns = 0
                    continue
                wanted = min(2 * wanted, LARGEST - MAX_FRAME)
                turns += 1
                if turns == _TURN:
                    turns = 0
                    await asyncio.sleep(0)
        finally:
            if held is not None:
                held.release()

    def _hold(self, rest: memoryview) -> tuple[Lease | None, int]:
        size = len(rest)
        if not size:
            return None, 0
        held = self._account.hold(size)
        held.view[:size] = rest
        return held, size

    async def _write(self) -> None:
        stream, session, carrier = self.stream, self._session, self.carrier
        turns = 0
        while True:
            if not session.engine.has_work(carrier, session.loop.time()):
                if session.engine.closed is not None:
                    await stream.aclose()
                    return
                turns = 0
                self._idle = session.loop.create_future()
                await self._idle
                continue
            room = stream.room()
            if not room:
                await stream.wait_writable()
                continue
            await self._fill(room)
            turns += 1
            if turns == _TURN:
                turns = 0
                await asyncio.sleep(0)

    async def _fill(self, room: int) -> None:
        stream, session, account = self.stream, self._session, self._account
        start = stream.headroom
        room = max(min(room, LARGEST - start), MAX_FRAME)
        least, most = start + MAX_FRAME, start + room
        lease = account.try_step(least, most) or await account.step(least, most)
        try:
            view = lease.view[start : start + room]
            end = start + session.engine.fill(self.carrier, view, session.loop.time())
            if end > start:
                start += stream.write(lease.view, start, end)
                if start < end or stream.unsent is not None:
                    lease, start, end = keep(lease, stream, account, start, end)
                    session.attend()
                    await finish(lease.view, stream, start, end)
        except BaseException:
            stream.unsent = None  # the block goes back: nobody may look at it again
            raise
        finally:
            lease.release()
        session.attend()
