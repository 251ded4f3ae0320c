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
from circumvent.wire.frames import SESSION, CloseReason, FrameKind, ResetReason, pack


class Engine:
    """One end of a session.

    ``account`` pays for what is kept: what is not acknowledged, and what nobody read yet.
    """

    __slots__ = (
        "_carriers",
        "_close_sent",
        "_look_at",
        "_receiver",
        "_sender",
        "_stall_check",
        "_state",
        "receive",
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
        self._state = state = EngineState(account, limits, random, is_client=is_client)
        self._carriers, self._sender = state.carriers, state.sender
        self._receiver = state.receiver
        self.receive = FrameHandler(state, now).receive
        self._close_sent: set[int] = set()
        self._stall_check = self._look_at = NEVER

    # --- what whoever drives the engine looks at, and empties -----------------------------------

    @property
    def woken(self) -> list[EngineStream]:
        """Streams whose waiting reader or writer may go on."""
        return self._state.woken

    @property
    def accepted(self) -> list[tuple[EngineStream, bytes]]:
        """Streams that the peer opened, with what it said they are for."""
        return self._state.accepted

    @property
    def changed_carriers(self) -> list[EngineCarrier]:
        """Carriers whose state changed."""
        return self._carriers.changed

    @property
    def closed(self) -> CloseReason | None:
        """Why the session is over; None while it is not."""
        return self._state.closed

    @property
    def is_sooner(self) -> bool:
        """Whether ``deadline`` may be earlier than when it was last asked for."""
        return self._state.is_sooner

    @property
    def has_control(self) -> bool:
        """Whether there is something to say that is not data."""
        return self._sender.has_control

    @property
    def has_queue(self) -> bool:
        """Whether anything waits for a carrier."""
        return self._sender.has_control or self._sender.scheduler.size > 0

    @property
    def grain(self) -> int:
        """Bytes that ``fill`` needs at least: of the largest frame, or run of frames."""
        return self._sender.scheduler.grain

    @property
    def repeated(self) -> int:
        """Bytes of data that came again."""
        return self._state.repeated

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._state.streams)

    # --- streams --------------------------------------------------------------------------------

    def open(self, opening: bytes) -> EngineStream:
        """A new stream; ``opening`` tells the peer what for, with the first words or ``announce``.

        Nothing is waited for.
        """
        window = self._state.credit.first_window(len(self._state.streams))
        stream = self._state.streams.open(window)
        self._sender.open(stream, opening)
        return stream

    def announce(self, stream: EngineStream) -> None:
        """Tell the peer of ``stream`` before there is anything to say on it."""
        self._sender.announce(stream)

    def room(self, stream: EngineStream) -> int:
        """Bytes that ``write`` would take now."""
        return self._sender.room(stream)

    def write(self, stream: EngineStream, data: memoryview) -> int:
        """Take bytes to be sent; returns how many."""
        self._state.is_sooner |= not self._sender.scheduler.size
        return self._sender.write(stream, data)

    def end(self, stream: EngineStream) -> None:
        """No more bytes follow on ``stream``."""
        self._sender.end(stream)

    def read_into(self, stream: EngineStream, buffer: memoryview, now: float) -> int:
        """Move received bytes into ``buffer``; 0 when there are none now."""
        count = self._receiver.read_into(stream, buffer, now)
        if count:
            self._state.grant(stream)
            self._state.retire_if_over(stream)
        return count

    def stop(self, stream: EngineStream, reason: ResetReason = ResetReason.CANCELLED) -> None:
        """Nobody will read any more."""
        self._state.stop(stream, reason)

    def abort(self, stream: EngineStream, reason: ResetReason = ResetReason.CANCELLED) -> None:
        """Cut both directions at once."""
        self._state.abort(stream, reason)

    def wait_to_read(self, stream: EngineStream) -> None:
        """Put ``stream`` into ``woken`` when it can be read."""
        stream.waits_to_read = True

    def wait_to_write(self, stream: EngineStream) -> None:
        """Put ``stream`` into ``woken`` when there is room."""
        self._sender.wait(stream)

    # --- carriers -------------------------------------------------------------------------------

    @property
    def carriers(self) -> dict[int, EngineCarrier]:
        """Those that live, by number."""
        return self._carriers.live

    def attach(self, number: int, rtt: float, now: float) -> EngineCarrier:
        """A carrier was connected and authenticated; ``rtt`` is what its handshake took."""
        self._state.is_sooner = True
        return self._carriers.attach(number, rtt, now)

    def detach(self, carrier: EngineCarrier, now: float) -> None:
        """A carrier broke."""
        self._state.is_sooner = True
        self._carriers.detach(carrier, now)

    def check_alive(self, now: float) -> None:
        """The network may have changed: suspect every carrier that does not answer soon."""
        self._state.is_sooner = True
        self._carriers.check_alive(now)

    def has_notes(self, carrier: EngineCarrier) -> bool:
        """Whether there is something to say that only ``carrier`` can say."""
        if self._state.closed is not None:
            return carrier.number not in self._close_sent
        return self._carriers.has_notes(carrier)

    def has_work(self, carrier: EngineCarrier, now: float) -> bool:
        """Whether ``fill`` would write something; to be asked when ``carrier`` can write."""
        if self._state.closed is not None:
            return carrier.number not in self._close_sent
        if self._carriers.has_notes(carrier):
            return True
        return carrier.state is CarrierState.UP and self._sender.has_work(
            carrier, self._carriers.live.values(), now
        )

    def fill(self, carrier: EngineCarrier, view: memoryview, now: float) -> int:
        """Write frames for ``carrier`` into ``view`` (``grain`` bytes at least); how many bytes.

        They count as sent: all of them must be written, in order, or the carrier be detached.
        """
        if self._state.closed is not None:
            return self._fill_close(carrier, view, self._state.closed)
        is_sign = carrier.must_ping or carrier.pong is not None
        at = self._carriers.fill(carrier, view, now)
        if carrier.state is CarrierState.UP:
            self._state.is_sooner |= carrier.sent == carrier.acked
            at = self._sender.fill(carrier, self._carriers.live.values(), view, at, now)
        if is_sign:
            at = self._carriers.pad(view, at)
        carrier.bytes_out += at
        return at

    def _fill_close(self, carrier: EngineCarrier, view: memoryview, reason: CloseReason) -> int:
        if carrier.number in self._close_sent:
            return 0
        self._close_sent.add(carrier.number)
        frame = pack(FrameKind.CLOSE, SESSION, 0, bytes((reason,)))
        view[: len(frame)] = frame
        return len(frame)

    def keep(self, lent: list[EngineStream]) -> None:
        """Copy what readers did not take of what ``receive`` lent them."""
        self._receiver.keep(lent)

    # --- time and the end -----------------------------------------------------------------------

    def deadline(self, now: float) -> float:
        """When ``tick`` has something to do; earlier only after ``is_sooner`` became true."""
        state = self._state
        state.is_sooner = False
        due = self._carriers.deadline(now)
        if state.credit.is_exhausted:
            self._stall_check = min(self._stall_check, now + STALL_CHECK)
        if state.is_dry:
            self._look_at = min(self._look_at, now + LOOK_AGAIN)
        if self._sender.scheduler.size:
            due = min(due, now + RECONSIDER)
        return min(due, self._stall_check, self._look_at)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._state.is_sooner = True
        self._carriers.tick(now)
        if now >= self._stall_check:
            self._stall_check = NEVER
            self._state.relieve(now)
        if now >= self._look_at:
            self._look_at = NEVER
            self._state.look_again()
        self._sender.wake_blocked()

    def close(self, reason: CloseReason) -> None:
        """The session is over: say so on every carrier, drop everything, wake everybody."""
        if self._state.closed is None:
            self._state.end(reason)
