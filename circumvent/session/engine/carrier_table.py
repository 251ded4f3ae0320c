"""All carriers of a session: live and suspected ones, and unacknowledged frames of dead ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from random import Random

from circumvent.session.engine.carrier import MICROSECONDS, NEVER, CarrierState, EngineCarrier
from circumvent.session.engine.limits import (
    ALL_SILENT,
    ASK_PATIENCE,
    FINAL_COUNTS,
    LATE_LOOP,
    LEAST_LIFE,
    PADS,
    PING_AFTER,
    PING_JITTER,
    PONG_PATIENCE,
)
from circumvent.session.engine.stream import Frame
from circumvent.wire.frames import PAD, FrameKind, pack

_ROUND_TRIPS = 2  # of the fastest carrier, for an answer about another one


class CarrierTable:
    """Finds every carrier by its number.

    ``arrived`` is called with frames that were acknowledged, ``requeue`` with a carrier whose
    frames others must carry. ``changed`` collects carriers whose state changed.
    """

    __slots__ = (
        "_arrived",
        "_expected",
        "_finals",
        "_lost",
        "_notes",
        "_random",
        "_requeue",
        "changed",
        "live",
    )

    def __init__(
        self,
        arrived: Callable[[Sequence[Frame]], None],
        requeue: Callable[[EngineCarrier], object],
        random: Random,
    ) -> None:
        self._arrived = arrived
        self._requeue = requeue
        self._random = random
        self.live: dict[int, EngineCarrier] = {}
        self.changed: list[EngineCarrier] = []
        self._lost: dict[int, EngineCarrier] = {}  # dead; what arrived at the peer is unknown
        self._finals: OrderedDict[int, int] = OrderedDict()
        self._notes: list[tuple[int, bytes]] = []  # frames, and the carrier they must not take
        self._expected = NEVER

    # --- coming and going -----------------------------------------------------------------------

    def attach(self, number: int, rtt: float, now: float) -> EngineCarrier:
        """A new carrier; it repeats the final counts of dead ones, in case the peer missed them."""
        carrier = self.live[number] = EngineCarrier(number, rtt, now)
        self._draw_ping(carrier)
        carrier.must_ping = True  # its answer brings the first round-trip time
        for gone, count in self._finals.items():
            self._notes.append((gone, pack(FrameKind.GONE, gone, count)))
        for lost in self._lost.values():
            if lost.ask_until == NEVER:
                lost.ask_until = now + _ROUND_TRIPS * rtt + ASK_PATIENCE
        return carrier

    def detach(self, carrier: EngineCarrier, now: float) -> None:
        """A carrier broke or is dead: ask what arrived, and let others carry the rest."""
        if self.live.pop(carrier.number, None) is None:
            return
        self._set(carrier, CarrierState.DEAD)
        self._finals[carrier.number] = carrier.received
        if len(self._finals) > FINAL_COUNTS:
            self._finals.popitem(last=False)
        self._notes.append((carrier.number, pack(FrameKind.GONE, carrier.number, carrier.received)))
        self._lost[carrier.number] = carrier
        carrier.ask_until = self._answer_by(now)

    def check_alive(self, now: float) -> None:
        """Ping every carrier; suspect those that do not answer within their patience."""
        for carrier in self.live.values():
            _check_alive(carrier, now)

    def frames(self) -> Iterator[Frame]:
        """Frames that are on the way on any carrier."""
        for carrier in (*self.live.values(), *self._lost.values()):
            yield from carrier.frames

    def _answer_by(self, now: float) -> float:
        """Until when a live carrier should have brought an answer about another one."""
        fastest = min((each.estimate.srtt for each in self._up()), default=NEVER)
        return now + _ROUND_TRIPS * fastest + ASK_PATIENCE

    def _up(self) -> list[EngineCarrier]:
        return [each for each in self.live.values() if each.state is CarrierState.UP]

    def _set(self, carrier: EngineCarrier, state: CarrierState) -> None:
        if carrier.state is not state:
            carrier.state = state
            self.changed.append(carrier)

    def _draw_ping(self, carrier: EngineCarrier) -> None:
        carrier.ping_after = PING_AFTER * (1.0 - PING_JITTER * self._random.random())

    # --- frames from the peer------------------------------------------------------------------

    def note_bytes(self, carrier: EngineCarrier, count: int, now: float) -> None:
        """``count`` bytes of any kind arrived on ``carrier``."""
        carrier.note_bytes(count, now)
        if carrier.state is CarrierState.SUSPECT and not carrier.unacked:
            self._set(carrier, CarrierState.UP)

    def on_ack(self, on: EngineCarrier, number: int, count: int, delay: float, now: float) -> bool:
        """ACK about carrier ``number`` came on ``on``; False when it brings nothing new."""
        carrier = self.live.get(number) or self._lost.get(number)
        if carrier is None:
            return False
        if on is carrier:
            is_news = carrier.progress(count, delay, now)
            if is_news and carrier.state is CarrierState.SUSPECT:
                carrier.ask_until = NEVER
                self._set(carrier, CarrierState.UP)
        else:
            is_news = carrier.is_answered = True
        self._arrived(carrier.acknowledge(count))
        if on is not carrier and carrier.ask_until != NEVER and number in self.live:
            self._give_to_others(carrier)
        return is_news

    def on_pong(self, carrier: EngineCarrier, nonce: int, now: float) -> bool:
        """PONG: a round trip without data; it measures the path better than the handshake."""
        if nonce != carrier.ping_nonce:
            return False
        carrier.ping_nonce = -1
        carrier.estimate.see_ping(now - carrier.ping_sent_at, now)
        return True

    def on_ask(self, number: int, now: float) -> bool:
        """ASK about a carrier: answer on any other one.

        The peer gets no acknowledgements on it. If we have not noticed either, ping it.
        """
        carrier = self.live.get(number)
        if carrier is None:
            return False
        if now - carrier.seen_at > ASK_PATIENCE:
            _check_alive(carrier, now)
        payload = _delay(carrier.received_at, carrier.received_at)
        self._notes.append((number, pack(FrameKind.ACK, number, carrier.received, payload)))
        return True

    def on_gone(self, number: int, count: int, now: float) -> bool:
        """GONE: the peer's final count of received bytes on a carrier."""
        carrier = self.live.get(number)
        if carrier is not None:
            self.detach(carrier, now)
        carrier = self._lost.pop(number, None)
        if carrier is None:
            return False
        self._arrived(carrier.acknowledge(count))
        self._give_to_others(carrier)
        return True

    def _give_to_others(self, carrier: EngineCarrier) -> None:
        carrier.ask_until = NEVER
        self._requeue(carrier)

    # --- frames to the peer------------------------------------------------------------------------

    def has_notes(self, carrier: EngineCarrier) -> bool:
        """Whether ``fill`` would write something that must not wait."""
        if carrier.must_ack or carrier.must_ping or carrier.pong is not None:
            return True
        return bool(self._notes) and self._may_carry_notes(carrier)

    def fill(self, carrier: EngineCarrier, view: memoryview, now: float) -> int:
        """Write the uncounted frames at the start of ``view``; returns where they end."""
        at = 0
        if carrier.received != carrier.received_acked:
            carrier.must_ack = False
            carrier.ack_due = NEVER
            carrier.received_acked = carrier.received
            payload = _delay(carrier.received_at, now)
            at = _put(view, at, pack(FrameKind.ACK, carrier.number, carrier.received, payload))
        if carrier.pong is not None:
            at = _put(view, at, pack(FrameKind.PONG, 0, carrier.pong))
            carrier.pong = None
        if carrier.must_ping:
            carrier.must_ping = False
            carrier.ping_nonce, carrier.ping_sent_at = self._random.getrandbits(32), now
            at = _put(view, at, pack(FrameKind.PING, 0, carrier.ping_nonce))
        if self._notes and self._may_carry_notes(carrier):
            at = self._fill_notes(carrier, view, at)
        return at

    def pad(self, view: memoryview, at: int) -> int:
        """Hide the length of what stands before ``at`` behind padding; returns the new end."""
        room = (len(view) - at) // len(PAD)
        return _put(view, at, PAD * min(self._random.randrange(PADS + 1), room))

    def _fill_notes(self, carrier: EngineCarrier, view: memoryview, at: int) -> int:
        kept = []
        for avoid, note in self._notes:
            if avoid == carrier.number or at + len(note) > len(view):
                kept.append((avoid, note))
            else:
                at = _put(view, at, note)
        self._notes = kept
        return at

    def _may_carry_notes(self, carrier: EngineCarrier) -> bool:
        if carrier.state is not CarrierState.UP and self._up():
            return False
        return any(avoid != carrier.number for avoid, _ in self._notes)

    # --- time -----------------------------------------------------------------------------------

    def deadline(self, now: float) -> float:
        """When ``tick`` has something to do."""
        due = min((lost.ask_until for lost in self._lost.values()), default=NEVER)
        for each in self.live.values():
            due = min(due, each.ack_due, each.ping_at, each.ask_until)
            if each.state is CarrierState.UP:
                due = min(due, each.suspect_at, each.ask_at)
            else:
                due = min(due, max(now, each.seen_at + _life(each), each.suspected_at) + LATE_LOOP)
        self._expected = due
        return due

    def tick(self, now: float) -> None:
        """Do what is due."""
        if now - self._expected > LATE_LOOP:
            self._restart_clocks(now)
        for lost in [lost for lost in self._lost.values() if lost.ask_until <= now]:
            del self._lost[lost.number]
            self._give_to_others(lost)
        for carrier in tuple(self.live.values()):
            self._tick(carrier, now)

    def _tick(self, carrier: EngineCarrier, now: float) -> None:
        if carrier.ack_due <= now:
            carrier.must_ack = True
            carrier.ack_due = NEVER
        if carrier.ping_at <= now:  # an answer is due even if the kernel does not take the PING
            carrier.must_ping = True
            carrier.ping_at, carrier.pinged_at = NEVER, now
            self._draw_ping(carrier)
        if carrier.state is CarrierState.UP:
            if carrier.suspect_at <= now:
                self._suspect(carrier, now)
            elif carrier.ask_at <= now:
                self._ask(carrier)
        else:
            if carrier.ask_until <= now:
                self._give_to_others(carrier)
            if self._is_dead(carrier, now):
                self.detach(carrier, now)

    def _suspect(self, carrier: EngineCarrier, now: float) -> None:
        self._set(carrier, CarrierState.SUSPECT)
        carrier.suspected_at = now
        carrier.must_ping = True
        if carrier.is_answered:
            self._give_to_others(carrier)
        else:
            carrier.ask_until = self._answer_by(now)
            if not carrier.is_asked:
                self._ask(carrier)

    def _ask(self, carrier: EngineCarrier) -> None:
        """Ask the peer on another carrier how much arrived: that saves sending it twice."""
        carrier.is_asked = True
        carrier.is_answered = False
        self._notes.append((carrier.number, pack(FrameKind.ASK, carrier.number, 0)))

    def _is_dead(self, carrier: EngineCarrier, now: float) -> bool:
        """Whether it is silent and others are not. If all are, it is the network: wait longer."""
        if now - carrier.suspected_at > ALL_SILENT:
            return True
        silence = now - max(carrier.seen_at, carrier.progress_at)
        return silence > _life(carrier) and any(
            other.seen_at > carrier.suspected_at for other in self._up()
        )

    def _restart_clocks(self, now: float) -> None:
        """Our own process was late: answers may lie unread in the kernel. Start the clocks anew."""
        for carrier in self.live.values():
            carrier.progress_at = now
            if carrier.pinged_at != NEVER:
                carrier.pinged_at = now
            if carrier.suspected_at != NEVER:
                carrier.suspected_at = now


def _check_alive(carrier: EngineCarrier, now: float) -> None:
    """Suspect it if it does not answer within its patience."""
    carrier.must_ping = True
    carrier.pinged_at = min(carrier.pinged_at, now - PONG_PATIENCE)


def _life(carrier: EngineCarrier) -> float:
    return max(LEAST_LIFE, 2 * carrier.estimate.patience)


def _delay(since: float, now: float) -> bytes:
    return min(max(0, int((now - since) * MICROSECONDS)), 0xFFFFFFFF).to_bytes(4)


def _put(view: memoryview, at: int, frame: bytes) -> int:
    end = at + len(frame)
    view[at:end] = frame
    return end
