"""One carrier at work: a task that reads it and one that writes it.

Both follow the pump's rules: a block is leased only when the carrier can be read or written, and
given back in the same turn. What is kept (half a frame, what the kernel refused) is a hold lease.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from circumvent.api.streams import ByteStream
from circumvent.memory import LARGEST, Account, Lease
from circumvent.net.pump import FIRST_READ, finish, keep, settle
from circumvent.session.engine.carrier import EngineCarrier
from circumvent.session.engine.engine import Engine
from circumvent.session.engine.stream import EngineStream
from circumvent.wire.frames import MAX_FRAME

_NOTHING = memoryview(b"")
_READER = 0  # of the tasks
_TURN = 4  # blocks in a row before others get a turn of the loop


class CarrierSession(Protocol):
    """What a carrier needs of its session."""

    loop: asyncio.AbstractEventLoop
    engine: Engine

    def receive(
        self, carrier: EngineCarrier, data: memoryview, lent: list[EngineStream] | None = None
    ) -> int:
        """Take the whole frames at the start of ``data``; returns how many bytes."""

    def carrier_ended(self, carrier_io: CarrierIO, error: BaseException | None) -> None:
        """The carrier broke or ended."""

    def wake_all(self) -> None:
        """Wake streams and carriers that may go on."""

    def wake_streams(self) -> None:
        """Wake streams that may go on."""

    def wake_carriers(self) -> None:
        """Wake carriers that have something to write."""


class CarrierIO:
    """Drives ``carrier`` over ``stream``, which it owns.

    ``is_idle``: whether the writer waits for something to write.
    """

    __slots__ = (
        "_account",
        "_held",
        "_idle",
        "_is_over",
        "_rest",
        "_session",
        "_tasks",
        "carrier",
        "is_idle",
        "stream",
    )

    def __init__(
        self,
        session: CarrierSession,
        carrier: EngineCarrier,
        stream: ByteStream,
        account: Account,
    ) -> None:
        self.carrier = carrier
        self.stream = stream
        self._session = session
        self._account = account
        self._idle: asyncio.Future[None] | None = None
        self.is_idle = False
        self._is_over = False
        self._held: Lease | None = None
        self._rest = _NOTHING
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def start(self, leftover: bytes) -> None:
        """Begin; ``leftover`` came behind the handshake."""
        loop = self._session.loop
        self._tasks = (loop.create_task(self._read(leftover)), loop.create_task(self._write()))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def wake(self) -> None:
        """There is something to write."""
        if self.is_idle and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        self.is_idle = False

    def cut(self) -> None:
        """Stop all tasks and break the pipe."""
        self._is_over = True
        self.stream.abort()
        for task in self._tasks:
            task.cancel()

    def close(self) -> None:
        """As ``cut``, but nothing is wrong: the pipe ends as those of others do."""
        if self._is_over:
            return
        self._is_over = True
        for task in self._tasks:
            task.cancel()
        self._tasks = (*self._tasks, self._session.loop.create_task(self._hang_up()))

    async def _hang_up(self) -> None:
        await self.stream.aclose()

    async def wait_closed(self) -> None:
        """Return when all tasks have ended."""
        while pending := [task for task in self._tasks if not task.done()]:
            await asyncio.wait(pending)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.cut()
        elif task is self._tasks[_READER]:
            self.close()
        elif not self._is_over:  # the writer has said goodbye: the reader hears that of the peer
            return
        self._session.carrier_ended(self, error)

    async def _read(self, leftover: bytes) -> None:
        wanted, turns = FIRST_READ, 0
        try:
            if leftover:
                rest = leftover[self._session.receive(self.carrier, memoryview(leftover)) :]
                self._hold(memoryview(rest))
            while count := await self._read_once(wanted):
                if count < wanted:
                    turns = 0
                    continue
                wanted = min(2 * wanted, LARGEST - MAX_FRAME)
                turns += 1
                if turns == _TURN:
                    turns = 0
                    await asyncio.sleep(0)
        finally:
            self._hold(_NOTHING)

    async def _read_once(self, wanted: int) -> int:
        """Take what is there, about ``wanted`` bytes; how many; 0 at the end."""
        stream, account = self.stream, self._account
        while True:
            await stream.wait_readable()
            size = len(self._rest)
            least = size + stream.record + stream.overhead
            most = min(size + max(wanted, stream.record) + stream.overhead, LARGEST)
            lease = account.try_step(least, most) or await account.step(least, most)
            lent: list[EngineStream] = []
            try:
                count = stream.read_into(lease.view[size:])
                if count:
                    lease.view[:size] = self._rest
                    size += count
                    taken = self._session.receive(self.carrier, lease.view[:size], lent)
                    self._hold(lease.view[taken:size])
                    if lent:  # their readers were woken: let them take it from here
                        await asyncio.sleep(0)
            finally:
                if lent:
                    self._session.engine.receiver.keep(lent)
                lease.release()
            if count is not None:
                return count

    def _hold(self, rest: memoryview) -> None:
        """Keep the beginning of a frame until the rest of it comes."""
        held, self._rest = self._held, _NOTHING
        size = len(rest)
        self._held = self._account.hold(size) if size else None
        if self._held is not None:
            self._held.view[:size] = rest
            self._rest = self._held.view[:size]
        if held is not None:
            held.release()

    async def _write(self) -> None:
        stream, session, carrier = self.stream, self._session, self.carrier
        turns = 0
        while True:
            if not session.engine.has_work(carrier, session.loop.time()):
                if session.engine.state.closed is not None:
                    stream.write_eof()
                    await settle(stream)
                    return
                turns = 0
                self._idle = session.loop.create_future()
                self.is_idle = True
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
        grain = session.engine.sender.scheduler.grain
        room = max(min(room, LARGEST - start), grain)
        least, most = start + grain, start + room
        lease = account.try_step(least, most) or await account.step(least, most)
        try:
            view = lease.view[start : start + room]
            end = start + session.engine.fill(self.carrier, view, session.loop.time())
            if end > start:
                start += stream.write(lease.view, start, end)
                if start < end or stream.unsent is not None:
                    lease, start, end = keep(lease, stream, account, start, end)
                    session.wake_all()
                    await finish(lease.view, stream, start, end)
        except BaseException:
            stream.unsent = None  # the block goes back: nobody may look at it again
            raise
        finally:
            lease.release()
        session.wake_streams()
        if session.engine.sender.has_queue:  # others may take what is left
            session.wake_carriers()
