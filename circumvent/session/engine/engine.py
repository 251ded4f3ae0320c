"""The session engine: bytes of carriers in and out, bytes of streams in and out; no I/O.

Both ends run the same engine. Whoever drives it hands in the time, calls ``tick`` when
``deadline`` says so, gives ``receive`` what came on a carrier and sends what ``fill`` writes.
"""

from __future__ import annotations

from random import Random

from circumvent.memory import Account
from circumvent.session.engine.carrier import NEVER, CarrierState, EngineCarrier
from circumvent.session.engine.frame_handler import FrameHandler
from circumvent.session.engine.limits import LOOK_AGAIN, RECONSIDER, STALL_CHECK, SessionLimits
from circumvent.session.engine.state import EngineState
from circumvent.session.engine.stream import EngineStream
from circumvent.wire.frames import SESSION, CloseReason, FrameKind, pack


class Engine:
    """One end of a session: what concerns several of its parts at once.

    ``account`` pays for what is kept: what is not acknowledged, and what nobody read yet. The
    parts are there to be used directly: ``sender`` and ``receiver`` (the two directions of all
    streams), ``carriers``, and ``state``, which also collects what the driver must take note of.
    """

    __slots__ = (
        "_close_sent",
        "_look_at",
        "_stall_check",
        "carriers",
        "receive",
        "receiver",
        "sender",
        "state",
    )

    def __init__(
        self,
        account: Account,
        limits: SessionLimits,
        now: float,
        random: Random,
        *,
        is_client: bool,
    ) -> None:
        self.state = state = EngineState(account, limits, random, is_client=is_client)
        self.carriers, self.sender = state.carriers, state.sender
        self.receiver = state.receiver
        self.receive = FrameHandler(state, now).receive
        self._close_sent: set[int] = set()
        self._stall_check = self._look_at = NEVER

    # --- streams --------------------------------------------------------------------------------

    def open(self, opening: bytes) -> EngineStream:
        """A new stream; ``opening`` tells the peer what for, with the first words or ``announce``.

        Nothing is waited for.
        """
        window = self.state.credit.first_window(len(self.state.streams))
        stream = self.state.streams.open(window)
        self.sender.open(stream, opening)
        return stream

    def write(self, stream: EngineStream, data: memoryview) -> int:
        """Take bytes to be sent; returns how many."""
        self.state.is_sooner |= not self.sender.scheduler.size
        return self.sender.write(stream, data)

    def read_into(self, stream: EngineStream, buffer: memoryview, now: float) -> int:
        """Move received bytes into ``buffer``; 0 when there are none now."""
        count = self.receiver.read_into(stream, buffer, now)
        if count:
            self.state.grant(stream)
            self.state.retire_if_over(stream)
        return count

    # --- carriers -------------------------------------------------------------------------------

    def attach(self, number: int, rtt: float, now: float) -> EngineCarrier:
        """A carrier was connected and authenticated; ``rtt`` is what its handshake took."""
        self.state.is_sooner = True
        return self.carriers.attach(number, rtt, now)

    def detach(self, carrier: EngineCarrier, now: float) -> None:
        """A carrier broke."""
        self.state.is_sooner = True
        self.carriers.detach(carrier, now)

    def check_alive(self, now: float) -> None:
        """The network may have changed: suspect every carrier that does not answer soon."""
        self.state.is_sooner = True
        self.carriers.check_alive(now)

    def has_notes(self, carrier: EngineCarrier) -> bool:
        """Whether there is something to say that only ``carrier`` can say."""
        if self.state.closed is not None:
            return carrier.number not in self._close_sent
        return self.carriers.has_notes(carrier)

    def has_work(self, carrier: EngineCarrier, now: float) -> bool:
        """Whether ``fill`` would write something; to be asked when ``carrier`` can write."""
        if self.state.closed is not None:
            return carrier.number not in self._close_sent
        if self.carriers.has_notes(carrier):
            return True
        return carrier.state is CarrierState.UP and self.sender.has_work(
            carrier, self.carriers.live.values(), now
        )

    def fill(self, carrier: EngineCarrier, view: memoryview, now: float) -> int:
        """Write frames for ``carrier`` into ``view`` (``grain`` bytes at least); how many bytes.

        They count as sent: all of them must be written, in order, or the carrier be detached.
        """
        if self.state.closed is not None:
            return self._fill_close(carrier, view, self.state.closed)
        is_sign = carrier.must_ping or carrier.pong is not None
        at = self.carriers.fill(carrier, view, now)
        if carrier.state is CarrierState.UP:
            self.state.is_sooner |= carrier.sent == carrier.acked
            at = self.sender.fill(carrier, self.carriers.live.values(), view, at, now)
        if is_sign:
            at = self.carriers.pad(view, at)
        carrier.bytes_out += at
        return at

    def _fill_close(self, carrier: EngineCarrier, view: memoryview, reason: CloseReason) -> int:
        if carrier.number in self._close_sent:
            return 0
        self._close_sent.add(carrier.number)
        frame = pack(FrameKind.CLOSE, SESSION, 0, bytes((reason,)))
        view[: len(frame)] = frame
        return len(frame)

    # --- time -----------------------------------------------------------------------------------

    def deadline(self, now: float) -> float:
        """When ``tick`` has something to do; earlier only after ``is_sooner`` became true."""
        state = self.state
        state.is_sooner = False
        due = self.carriers.deadline(now)
        if state.credit.is_exhausted:
            self._stall_check = min(self._stall_check, now + STALL_CHECK)
        if self.sender.blocks.is_dry:
            self._look_at = min(self._look_at, now + LOOK_AGAIN)
        if self.sender.scheduler.size:
            due = min(due, now + RECONSIDER)
        return min(due, self._stall_check, self._look_at)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self.state.is_sooner = True
        self.carriers.tick(now)
        if now >= self._stall_check:
            self._stall_check = NEVER
            self.state.relieve(now)
        if now >= self._look_at:
            self._look_at = NEVER
            self.sender.blocks.look_again()
        self.sender.wake_blocked()
