"""One carrier at work: a task that reads it and one that writes it.

Both follow the pump's rules: they lease a block only when the carrier can be read or written, and
give it back in the same turn. What must survive (half a frame, bytes that the kernel refused) is a
hold lease.
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
from circumvent.tasks import wake
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
        "_partial",
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
        self._partial = _NOTHING
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def start(self, leftover: bytes) -> None:
        """Begin; ``leftover`` came behind the handshake."""
        loop = self._session.loop
        self._tasks = (loop.create_task(self._read(leftover)), loop.create_task(self._write()))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def wake(self) -> None:
        """Let the writer go on: there is something to write."""
        if self.is_idle:
            self.is_idle = False
            wake(self._idle)

    def cut(self) -> None:
        """Stop all tasks and break the pipe."""
        self._is_over = True
        self.stream.abort()
        for task in self._tasks:
            task.cancel()

    def close(self) -> None:
        """As ``cut``, but nothing is wrong: the pipe ends in order, without a reset."""
        if self._is_over:
            return
        self._is_over = True
        for task in self._tasks:
            task.cancel()
        self._tasks = (*self._tasks, self._session.loop.create_task(self._end_stream()))

    async def _end_stream(self) -> None:
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
        elif not self._is_over:  # the writer sent CLOSE: the reader waits for the peer's
            return
        self._session.carrier_ended(self, error)

    async def _read(self, leftover: bytes) -> None:
        wanted, turns = FIRST_READ, 0
        try:
            if leftover:
                taken = self._session.receive(self.carrier, memoryview(leftover))
                self._hold(memoryview(leftover)[taken:])
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
        """Take about ``wanted`` bytes; returns how many came, 0 at the end."""
        stream, account = self.stream, self._account
        while True:
            await stream.wait_readable()
            size = len(self._partial)
            least = size + stream.record + stream.overhead
            most = min(size + max(wanted, stream.record) + stream.overhead, LARGEST)
            lease = account.try_step(least, most) or await account.step(least, most)
            lent: list[EngineStream] = []
            try:
                count = stream.read_into(lease.view[size:])
                if count:
                    lease.view[:size] = self._partial
                    size += count
                    taken = self._session.receive(self.carrier, lease.view[:size], lent)
                    self._hold(lease.view[taken:size])
                    if lent:  # their readers were woken: let them read from this block
                        await asyncio.sleep(0)
            finally:
                if lent:
                    self._session.engine.receiver.keep(lent)
                lease.release()
            if count is not None:
                return count

    def _hold(self, partial: memoryview) -> None:
        """Keep the beginning of a frame until the rest of it comes."""
        held, self._partial = self._held, _NOTHING
        size = len(partial)
        self._held = self._account.hold(size) if size else None
        if self._held is not None:
            self._held.view[:size] = partial
            self._partial = self._held.view[:size]
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
            stream.unsent = None  # the block goes back to the arena: it must not be read again
            raise
        finally:
            lease.release()
        session.wake_streams()
        if session.engine.sender.has_queue:  # others may take what is left
            session.wake_carriers()
