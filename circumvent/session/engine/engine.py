"""The session engine: bytes of carriers in and out, bytes of streams in and out; no I/O.

Both ends run the same engine. Its driver passes the time to each call, calls ``tick`` at
``deadline``, passes what arrived on a carrier to ``receive``, and sends what ``fill`` writes.
"""

from __future__ import annotations

from random import Random

from circumvent.memory import Account
from circumvent.session.engine.carrier import NEVER, CarrierState, EngineCarrier
from circumvent.session.engine.frame_handler import FrameHandler
from circumvent.session.engine.limits import RECONSIDER, RETRY_MEMORY, STALL_CHECK, SessionLimits
from circumvent.session.engine.state import EngineState
from circumvent.session.engine.stream import EngineStream
from circumvent.wire.frames import SESSION, CloseReason, FrameKind, pack


class Engine:
    """One end of a session; its methods are those that concern several of its parts.

    ``account`` holds what is not acknowledged and what is not read yet. The driver uses the parts
    directly: ``sender`` and ``receiver`` (the two directions of all streams), ``carriers``, and
    ``state``, which also collects what the driver must act on.
    """

    __slots__ = (
        "_close_sent",
        "_retry_at",
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
        self._stall_check = self._retry_at = NEVER

    # --- streams --------------------------------------------------------------------------------

    def open(self, opening: bytes) -> EngineStream:
        """A new stream; ``opening`` tells the peer what it is for.

        It is sent with the first write or with ``Sender.announce``.
        """
        window = self.state.credit.first_window(len(self.state.streams))
        stream = self.state.streams.open(window)
        self.sender.open(stream, opening)
        return stream

    def write(self, stream: EngineStream, data: memoryview) -> int:
        """Queue bytes to be sent; returns how many there was room for."""
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
        """Ping every carrier; suspect those that do not answer soon."""
        self.state.is_sooner = True
        self.carriers.check_alive(now)

    def has_notes(self, carrier: EngineCarrier) -> bool:
        """Whether there is a frame that must not wait and that ``carrier`` can take."""
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
        is_ping = carrier.must_ping or carrier.pong is not None
        at = self.carriers.fill(carrier, view, now)
        if carrier.state is CarrierState.UP:
            self.state.is_sooner |= carrier.sent == carrier.acked
            at = self.sender.fill(carrier, self.carriers.live.values(), view, at, now)
        if is_ping:
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
            self._retry_at = min(self._retry_at, now + RETRY_MEMORY)
        if self.sender.scheduler.size:
            due = min(due, now + RECONSIDER)
        return min(due, self._stall_check, self._retry_at)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self.state.is_sooner = True
        self.carriers.tick(now)
        if now >= self._stall_check:
            self._stall_check = NEVER
            self.state.relieve(now)
        if now >= self._retry_at:
            self._retry_at = NEVER
            self.sender.blocks.retry()
        self.sender.wake_blocked()
