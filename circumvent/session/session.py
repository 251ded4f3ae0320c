"""A running session: one engine, its carriers and its clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from circumvent.api.streams import ByteStream
from circumvent.errors import CircumventError, ProtocolError
from circumvent.memory import Account
from circumvent.session.carrier_io import CarrierIO
from circumvent.session.engine.carrier import NEVER, CarrierState, EngineCarrier
from circumvent.session.engine.engine import Engine
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.engine.stream import EngineStream
from circumvent.session.session_stream import SessionStream
from circumvent.wire.frames import CloseReason

CLOSE_SECONDS = 1.0  # for CLOSE to be written; a carrier that does not take it is cut
_SOONER = 0.001  # seconds by which a deadline must be earlier to move the timer


class Session:
    """Streams over carriers.

    ``opened`` is called with each stream that the peer opens; ``changed``, when a carrier was
    added, removed or changed its state, and when the session is over.
    """

    def __init__(
        self,
        account: Account,
        limits: SessionLimits,
        *,
        is_client: bool,
        opened: Callable[[SessionStream, bytes], None] | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        random = Random()  # noqa: S311 - when to ping is no secret
        self.engine = Engine(account, limits, self.loop.time(), random, is_client=is_client)
        self.carriers: dict[int, CarrierIO] = {}
        self.error: CircumventError | None = None
        self._account = account
        self._opened = opened
        self._changed = changed
        self._leaving: set[CarrierIO] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = NEVER
        self._is_waking = False
        self._is_over = False

    # --- for users ------------------------------------------------------------------------------

    @property
    def closed(self) -> CloseReason | None:
        """Why the session is over; None while it is not."""
        return self.engine.state.closed

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self.engine.state.streams)

    def open(self, opening: bytes) -> SessionStream:
        """A new stream; ``opening`` tells the peer what it is for. Waits for nothing.

        The opening is sent with the first write, even an empty one. Alone on the wire, its length
        would show that of the destination's name.
        """
        return SessionStream(self, self.engine.open(opening))

    def attach(
        self, number: int, stream: ByteStream, rtt: float, leftover: bytes = b""
    ) -> CarrierIO:
        """Use ``stream``, whose handshake is done, and own it; ``rtt`` in seconds."""
        carrier = self.engine.attach(number, rtt, self.loop.time())
        carrier_io = self.carriers[number] = CarrierIO(self, carrier, stream, self._account)
        carrier_io.start(leftover)
        self._changed()
        self.wake_all()
        return carrier_io

    def check_carriers(self) -> None:
        """Suspect every carrier that does not answer soon."""
        self.engine.check_alive(self.loop.time())
        self.wake_all()

    def drop(self, carrier_io: CarrierIO) -> None:
        """Close a carrier that is not needed any more."""
        carrier_io.close()
        self.engine.detach(carrier_io.carrier, self.loop.time())
        self.wake_all()

    def close(self, reason: CloseReason) -> None:
        """End the session: cut every stream, and send the peer the reason."""
        self.engine.state.close(reason)
        self.wake_all()

    async def aclose(self, reason: CloseReason = CloseReason.DONE) -> None:
        """As ``close``; then close the carriers."""
        self.close(reason)
        carriers = (*self.carriers.values(), *self._leaving)
        waiting = [self.loop.create_task(carrier_io.wait_closed()) for carrier_io in carriers]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=CLOSE_SECONDS)
            for carrier_io in carriers:
                carrier_io.cut()
            if late:
                await asyncio.wait(late)
        if self._timer is not None:
            self._timer.cancel()

    # --- for carriers ---------------------------------------------------------------------------

    def receive(
        self, carrier: EngineCarrier, data: memoryview, lent: list[EngineStream] | None = None
    ) -> int:
        """Take what came on a carrier; end the session when the peer breaks the protocol."""
        try:
            return self.engine.receive(carrier, data, self.loop.time(), lent)
        except ProtocolError as error:
            self.error = error.bare()
            self.engine.state.close(CloseReason.VIOLATION)
            return len(data)
        finally:
            self.wake_all()

    def carrier_ended(self, carrier_io: CarrierIO, error: BaseException | None) -> None:
        """Forget a carrier that broke or ended."""
        if error is not None and not isinstance(error, CircumventError):
            context = {"message": "a carrier failed", "exception": error}
            self.loop.call_exception_handler(context)
        self.engine.detach(carrier_io.carrier, self.loop.time())
        if self.carriers.get(carrier_io.carrier.number) is carrier_io:
            del self.carriers[carrier_io.carrier.number]
            self._changed()
        self._leaving.discard(carrier_io)
        self.wake_all()

    def wake_all(self) -> None:
        """Wake streams and carriers that can go on after a change in the engine."""
        self.wake_streams()
        self.wake_carriers()

    def wake_streams(self) -> None:
        """Wake the streams that can go on, for instance after a carrier took data."""
        if not self._is_waking:  # otherwise one that was woken called this
            self._is_waking = True
            try:
                self._wake_streams()
            finally:
                self._is_waking = False

    def _wake_streams(self) -> None:
        state, woken = self.engine.state, self.engine.state.woken
        if state.carriers.changed:
            self._take_changes()
        while state.accepted:
            self._accept()
        if state.closed is not None and not self._is_over:
            self._is_over = True
            self._changed()
        while woken:
            owner = woken.pop().owner
            if isinstance(owner, SessionStream):
                owner.wake()
        self._set_timer()

    def wake_carriers(self) -> None:
        """Wake the fastest carrier that can write something.

        The others are woken when it has taken what it has room for. So while that carrier is never
        full, it takes everything, in large pieces and in order.
        """
        engine = self.engine
        idle = [carrier_io for carrier_io in self.carriers.values() if carrier_io.is_idle]
        if idle:
            now, is_first = self.loop.time(), True
            if len(idle) > 1:
                idle.sort(key=_round_trip)
            for carrier_io in idle:
                if engine.has_notes(carrier_io.carrier):
                    carrier_io.wake()
                elif is_first and engine.has_work(carrier_io.carrier, now):
                    is_first = False
                    carrier_io.wake()
        self._set_timer()

    def _accept(self) -> None:
        stream, opening = self.engine.state.accepted.pop(0)
        if self._opened is None:
            self.engine.state.abort(stream)
        else:
            self._opened(SessionStream(self, stream), opening)

    def _take_changes(self) -> None:
        changed = self.engine.carriers.changed
        ended, changed[:] = [each for each in changed if each.state is CarrierState.DEAD], []
        for carrier in ended:
            carrier_io = self.carriers.get(carrier.number)
            if carrier_io is not None:
                del self.carriers[carrier.number]
                self._leaving.add(carrier_io)
                if carrier.suspected_at == NEVER:  # the peer closed it
                    carrier_io.close()
                else:
                    carrier_io.cut()
        self._changed()

    # --- the clock ------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if not self.engine.state.is_sooner:
            return
        due = self.engine.deadline(self.loop.time())
        if due >= self._due - _SOONER:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self.loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._due = NEVER
        self.engine.tick(self.loop.time())
        self.wake_all()


def _round_trip(carrier_io: CarrierIO) -> float:
    return carrier_io.carrier.estimate.srtt
