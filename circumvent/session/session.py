"""A session at work: one engine, the carriers that feed it and the clock."""

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

GOODBYE_SECONDS = 1.0  # for CLOSE to be written; who does not take it will notice anyway
_SOONER = 0.001  # seconds by which a deadline must be earlier to move the timer


class Session:
    """Streams over carriers.

    ``opened`` is told of each stream that the peer opens, ``changed`` whenever carriers came,
    went or changed their state, and when the session is over.
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
        self.links: dict[int, CarrierIO] = {}
        self.error: CircumventError | None = None
        self._account = account
        self._opened = opened
        self._changed = changed
        self._leaving: set[CarrierIO] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = NEVER
        self._is_attending = False
        self._is_over = False

    # --- for users ------------------------------------------------------------------------------

    def open(self, opening: bytes) -> SessionStream:
        """A new stream; ``opening`` tells the peer what for. Waits for nothing.

        It leaves with the first write, if an empty one: its length alone would tell that of the
        destination's name.
        """
        return SessionStream(self, self.engine.open(opening))

    def attach(
        self, number: int, stream: ByteStream, rtt: float, leftover: bytes = b""
    ) -> CarrierIO:
        """Use ``stream``, whose handshake is done, and own it; ``rtt`` in seconds."""
        carrier = self.engine.attach(number, rtt, self.loop.time())
        link = self.links[number] = CarrierIO(self, carrier, stream, self._account)
        link.start(leftover)
        self._changed()
        self.attend()
        return link

    def doubt(self) -> None:
        """Suspect every carrier that does not answer soon."""
        self.engine.doubt(self.loop.time())
        self.attend()

    def drop(self, link: CarrierIO) -> None:
        """Do without a carrier."""
        link.close()
        self.engine.detach(link.carrier, self.loop.time())
        self.attend()

    def close(self, reason: CloseReason) -> None:
        """End the session: every stream is cut, the peer is told why."""
        self.engine.close(reason)
        self.attend()

    async def aclose(self, reason: CloseReason = CloseReason.DONE) -> None:
        """As ``close``, and let go of the carriers."""
        self.close(reason)
        links = (*self.links.values(), *self._leaving)
        waiting = [self.loop.create_task(link.wait_closed()) for link in links]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=GOODBYE_SECONDS)
            for link in links:
                link.cut()
            if late:
                await asyncio.wait(late)
        if self._timer is not None:
            self._timer.cancel()

    # --- for links ------------------------------------------------------------------------------

    def receive(
        self, carrier: EngineCarrier, data: memoryview, lent: list[EngineStream] | None = None
    ) -> int:
        """Take what came on a carrier; a peer that breaks the rules ends the session."""
        try:
            return self.engine.receive(carrier, data, self.loop.time(), lent)
        except ProtocolError as error:
            self.error = error.bare()
            self.engine.close(CloseReason.VIOLATION)
            return len(data)
        finally:
            self.attend()

    def lose(self, link: CarrierIO, error: BaseException | None) -> None:
        """A carrier broke or ended."""
        if error is not None and not isinstance(error, CircumventError):
            context = {"message": "a carrier failed", "exception": error}
            self.loop.call_exception_handler(context)
        self.engine.detach(link.carrier, self.loop.time())
        if self.links.get(link.carrier.number) is link:
            del self.links[link.carrier.number]
            self._changed()
        self._leaving.discard(link)
        self.attend()

    def attend(self) -> None:
        """Something happened in the engine: wake whom it concerns."""
        self.attend_streams()
        self.attend_links()

    def attend_streams(self) -> None:
        """A carrier took something: wake the streams that may go on."""
        if not self._is_attending:  # else whoever was woken did something in turn
            self._is_attending = True
            try:
                self._attend_streams()
            finally:
                self._is_attending = False

    def _attend_streams(self) -> None:
        engine = self.engine
        if engine.changed_carriers:
            self._see_changes()
        while engine.accepted:
            self._accept()
        if engine.closed is not None and not self._is_over:
            self._is_over = True
            self._changed()
        while engine.woken:
            owner = engine.woken.pop().owner
            if isinstance(owner, SessionStream):
                owner.wake()
        self._set_timer()

    def attend_links(self) -> None:
        """There may be something to write: wake the fastest that can.

        The others are woken when that has taken what it has room for. So on a path that is never
        full one carrier takes all, in large pieces and in order.
        """
        engine = self.engine
        idle = [link for link in self.links.values() if link.is_idle]
        if idle:
            now, is_first = self.loop.time(), True
            if len(idle) > 1:
                idle.sort(key=_round_trip)
            for link in idle:
                if engine.has_notes(link.carrier):
                    link.wake()
                elif is_first and engine.has_work(link.carrier, now):
                    is_first = False
                    link.wake()
        self._set_timer()

    def _accept(self) -> None:
        stream, opening = self.engine.accepted.pop(0)
        if self._opened is None:
            self.engine.abort(stream)
        else:
            self._opened(SessionStream(self, stream), opening)

    def _see_changes(self) -> None:
        changed, self.engine.changed_carriers[:] = list(self.engine.changed_carriers), []
        for carrier in changed:
            link = self.links.get(carrier.number)
            if carrier.state is CarrierState.DEAD and link is not None:
                del self.links[carrier.number]
                self._leaving.add(link)
                if carrier.suspected_at == NEVER:  # the peer does without it
                    link.close()
                else:
                    link.cut()
        self._changed()

    # --- the clock ------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if not self.engine.is_sooner:
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
        self.attend()


def _round_trip(link: CarrierIO) -> float:
    return link.carrier.estimate.srtt
