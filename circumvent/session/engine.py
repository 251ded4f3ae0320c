"""The session engine: bytes of carriers in and out, bytes of streams in and out; no I/O.

Both ends run the same engine. Whoever drives it hands in the time, calls ``tick`` when
``deadline`` says so, gives ``receive`` what came on a carrier and sends what ``fill`` writes.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from circumvent.errors import ProtocolError
from circumvent.memory import Account
from circumvent.session.blocks import Blocks
from circumvent.session.carrier_table import CarrierTable
from circumvent.session.carriers import MICROSECONDS, NEVER, Carrier, CarrierState
from circumvent.session.credit import ReceiveCredit
from circumvent.session.inbound import Inbound
from circumvent.session.limits import STALL_CHECK, STALLED_AFTER, Limits
from circumvent.session.nuisance import Nuisance
from circumvent.session.outbound import Outbound
from circumvent.session.stream_table import StreamTable
from circumvent.session.streams import Event, Receiving, Sending, Stream
from circumvent.wire.frames import (
    FIRST_UNCOUNTED,
    HEADER,
    HEADER_SIZE,
    LENGTH_BITS,
    LENGTH_MASK,
    MAX_OFFSET,
    MAX_PAYLOAD,
    SESSION,
    CloseReason,
    Kind,
    ResetReason,
    pack,
    read_head,
)

_DATA = int(Kind.DATA)


class Engine:
    """One end of a session.

    ``woken``: streams whose waiting reader or writer may go on; ``accepted``: streams that the
    peer opened, with what it wrote into the OPEN frame. Whoever drives the engine empties both,
    and ``changed_carriers``. ``closed`` is why the session is over, or None.
    """

    def __init__(
        self, account: Account, limits: Limits, now: float, random: Random, *, is_client: bool
    ) -> None:
        self.woken: list[Stream] = []
        self.accepted: list[tuple[Stream, bytes]] = []
        self.closed: CloseReason | None = None
        self.streams = StreamTable(limits.streams, is_client=is_client)
        self._outbound = Outbound(
            Blocks(account, limits.send), self._wake_writer, self._retire_if_over
        )
        self._held = Blocks(account, limits.receive)
        # Half: blocks are not always full, and stalled readers must not hold up the others.
        self._credit = ReceiveCredit(limits.receive // 2)
        self._inbound = Inbound(self._held, self._credit, self._starve)
        self._carriers = CarrierTable(self._outbound.settle, self._outbound.requeue, random)
        self._nuisance = Nuisance(now)
        self._goodbye: set[int] = set()
        self._stall_check = NEVER
        self._handlers: dict[int, Callable[[Carrier, int, int, bytes, float], bool]] = {
            Kind.OPEN: self._on_open,
            Kind.WINDOW: self._on_window,
            Kind.FIN: self._on_fin,
            Kind.RESET: self._on_reset,
            Kind.STOP: self._on_stop,
            Kind.ACK: self._on_ack,
            Kind.PING: self._on_ping,
            Kind.PONG: self._on_pong,
            Kind.ASK: self._on_ask,
            Kind.GONE: self._on_gone,
            Kind.CLOSE: self._on_close,
        }
        self._grant_session()

    # --- streams --------------------------------------------------------------------------------

    def open(self, opening: bytes) -> Stream:
        """A new stream; ``opening`` tells the peer what for. Nothing is waited for."""
        stream = self.streams.open(self._credit.first_window(len(self.streams)))
        self._outbound.open(stream, opening)
        return stream

    def room(self, stream: Stream) -> int:
        """Bytes that ``write`` would take now."""
        return self._outbound.room(stream)

    def write(self, stream: Stream, data: memoryview) -> int:
        """Take bytes to be sent; returns how many."""
        return self._outbound.write(stream, data)

    def end(self, stream: Stream) -> None:
        """No more bytes follow on ``stream``."""
        self._outbound.end(stream)

    def read_into(self, stream: Stream, buffer: memoryview, now: float) -> int:
        """Move received bytes into ``buffer``; 0 when there are none now."""
        count = self._inbound.read_into(stream, buffer, now)
        if count:
            self._grant(stream)
            self._retire_if_over(stream)
        return count

    def stop(self, stream: Stream, reason: ResetReason = ResetReason.CANCELLED) -> None:
        """Nobody will read any more."""
        if not stream.is_at_end and stream.receive_event(Event.STOP):
            self._outbound.stop(stream, reason)
            self._inbound.discard(stream)
            self._grant_session()
        self._retire_if_over(stream)

    def abort(self, stream: Stream, reason: ResetReason = ResetReason.CANCELLED) -> None:
        """Cut both directions at once."""
        self._outbound.cut(stream, reason)
        self.stop(stream, reason)

    def wait_to_read(self, stream: Stream) -> None:
        """Put ``stream`` into ``woken`` when it can be read."""
        stream.waits_to_read = True

    def wait_to_write(self, stream: Stream) -> None:
        """Put ``stream`` into ``woken`` when there is room."""
        self._outbound.wait(stream)

    # --- carriers -------------------------------------------------------------------------------

    @property
    def carriers(self) -> dict[int, Carrier]:
        """Those that live, by number."""
        return self._carriers.live

    @property
    def changed_carriers(self) -> list[Carrier]:
        """Those whose state changed."""
        return self._carriers.changed

    def attach(self, number: int, rtt: float, now: float) -> Carrier:
        """A carrier was connected and authenticated; ``rtt`` is what its handshake took."""
        return self._carriers.attach(number, rtt, now)

    def detach(self, carrier: Carrier, now: float) -> None:
        """A carrier broke."""
        self._carriers.detach(carrier, now)

    def has_work(self, carrier: Carrier, now: float) -> bool:
        """Whether ``fill`` would write something."""
        if self.closed is not None:
            return carrier.number not in self._goodbye
        if self._carriers.has_notes(carrier):
            return True
        return carrier.state is CarrierState.UP and self._outbound.has_work(
            carrier, self.carriers.values(), now
        )

    def fill(self, carrier: Carrier, view: memoryview, now: float) -> int:
        """Write frames for ``carrier`` into ``view`` (MAX_FRAME bytes at least); how many bytes.

        They count as sent: all of them must be written, in order, or the carrier be detached.
        """
        if self.closed is not None:
            return self._say_goodbye(carrier, view)
        at = self._carriers.fill(carrier, view, now)
        if carrier.state is CarrierState.UP:
            at = self._outbound.fill(carrier, self.carriers.values(), view, at, now)
        carrier.bytes_out += at
        return at

    def receive(self, carrier: Carrier, data: memoryview, now: float) -> int:
        """Take the whole frames at the start of ``data``; how many bytes they are.

        Raises ProtocolError: then the session must be closed.
        """
        if carrier.state is CarrierState.DEAD or self.closed is not None:
            return len(data)  # its final count was told already
        at, end, counted = 0, len(data), carrier.received
        unpack, find, take = HEADER.unpack_from, self.streams.find, self._inbound.data
        while end - at >= HEADER_SIZE:
            word, number, offset = unpack(data, at)
            after = at + HEADER_SIZE + (word & LENGTH_MASK)
            if word >> LENGTH_BITS == _DATA and number and offset < MAX_OFFSET:
                if not 0 < word & LENGTH_MASK <= MAX_PAYLOAD:
                    read_head(data, at)
                if after > end:
                    break
                stream = find(number)
                if stream is None or not take(stream, offset, data[at + HEADER_SIZE : after], now):
                    self._nuisance.count(now)
                elif stream.waits_to_read:
                    self._wake_reader(stream)
                counted += after - at
            else:
                head = read_head(data, at)
                if after > end:
                    break
                self._handle(carrier, head.kind, number, offset, bytes(data[at + HEADER_SIZE : after]), now)
                if head.kind < FIRST_UNCOUNTED:
                    counted += after - at
            at = after
        self._heard(carrier, at, counted, now)
        return at

    def _heard(self, carrier: Carrier, count: int, counted: int, now: float) -> None:
        self._carriers.hear(carrier, count, now)
        if counted != carrier.received and carrier.state is not CarrierState.DEAD:
            carrier.received = counted
            carrier.owe_ack(now)

    def close(self, reason: CloseReason) -> None:
        """The session is over: say so on every carrier, drop everything, wake everybody."""
        if self.closed is None:
            self._end(reason)

    def deadline(self, now: float) -> float:
        """When ``tick`` has something to do; may be earlier after every other call."""
        if self._credit.is_exhausted:
            self._stall_check = min(self._stall_check, now + STALL_CHECK)
        return min(self._carriers.deadline(now), self._stall_check)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._carriers.tick(now)
        if now >= self._stall_check:
            self._stall_check = NEVER
            self._relieve(now)
        self._outbound.wake_blocked()

    def trim(self) -> None:
        """Nothing moves: keep no block warm."""
        self._outbound.blocks.trim()
        self._held.trim()

    # --- what the peer says ---------------------------------------------------------------------

    def _handle(
        self, carrier: Carrier, kind: int, number: int, offset: int, payload: bytes, now: float
    ) -> None:
        handler = self._handlers.get(kind)
        if handler is None:
            raise ProtocolError("session: a handshake frame inside the session", stage="frame")
        if not handler(carrier, number, offset, payload, now):
            self._nuisance.count(now)

    def _on_open(self, _: Carrier, number: int, offset: int, payload: bytes, now: float) -> bool:
        self._nuisance.count(now)
        stream = self.streams.find(number)
        if stream is None or stream.is_open:
            return False
        stream.is_open = True
        stream.send_limit = max(stream.send_limit, offset)
        if self.streams.theirs > self.streams.limit:
            self.abort(stream, ResetReason.TOO_MANY)
        else:
            self.accepted.append((stream, payload))
        return True

    def _on_window(self, _: Carrier, number: int, offset: int, __: bytes, ___: float) -> bool:
        if number == SESSION:
            is_news = self._outbound.credit.raise_to(offset)
            self._outbound.wake_blocked()
            return is_news
        stream = self.streams.find(number)
        if stream is None or offset <= stream.send_limit:
            return False
        stream.send_limit = offset
        self._outbound.wake_if_room(stream)
        return True

    def _on_fin(self, _: Carrier, number: int, offset: int, __: bytes, ___: float) -> bool:
        stream = self.streams.find(number)
        if stream is None or stream.final >= 0:
            return False
        self._settle_size(stream, offset)
        stream.receive_event(Event.END)
        self._wake_reader(stream)
        self._retire_if_over(stream)
        return True

    def _on_reset(self, _: Carrier, number: int, offset: int, payload: bytes, __: float) -> bool:
        stream = self.streams.find(number)
        if stream is None:
            return False
        self._settle_size(stream, offset)
        if not stream.receive_event(Event.CUT):
            return False
        stream.reason = stream.reason or _reason(payload)
        self._inbound.discard(stream)
        self._grant_session()
        self._wake_reader(stream)
        self._retire_if_over(stream)
        return True

    def _on_stop(self, _: Carrier, number: int, __: int, payload: bytes, ___: float) -> bool:
        stream = self.streams.find(number)
        if stream is None or stream.sending is Sending.CUT:
            return False
        stream.reason = stream.reason or _reason(payload)
        self._outbound.cut(stream, _reason(payload))
        self._wake_writer(stream)
        return True

    def _on_ack(self, on: Carrier, number: int, offset: int, payload: bytes, now: float) -> bool:
        delay = int.from_bytes(payload) / MICROSECONDS
        is_news = self._carriers.on_ack(on, number, offset, delay, now)
        self._outbound.wake_blocked()
        return is_news

    def _on_ping(self, on: Carrier, _: int, offset: int, __: bytes, ___: float) -> bool:
        on.pong = offset
        return False

    def _on_pong(self, _: Carrier, __: int, ___: int, ____: bytes, _____: float) -> bool:
        return False

    def _on_ask(self, _: Carrier, number: int, __: int, ___: bytes, ____: float) -> bool:
        self._carriers.on_ask(number)
        return False

    def _on_gone(self, _: Carrier, number: int, offset: int, __: bytes, now: float) -> bool:
        self._carriers.on_gone(number, offset, now)
        self._outbound.wake_blocked()
        return False

    def _on_close(self, on: Carrier, _: int, __: int, payload: bytes, ___: float) -> bool:
        self._goodbye.add(on.number)
        self._end(_close_reason(payload))
        return True

    def _settle_size(self, stream: Stream, final: int) -> None:
        if final > stream.granted:
            raise ProtocolError("session: a stream ends beyond its window", stage="frame")
        stream.settle_size(final)

    # --- consequences ---------------------------------------------------------------------------

    def _wake_reader(self, stream: Stream) -> None:
        if stream.waits_to_read and stream.is_readable:
            stream.waits_to_read = False
            self.woken.append(stream)

    def _wake_writer(self, stream: Stream) -> None:
        if stream.waits_to_write:
            stream.waits_to_write = False
            self.woken.append(stream)

    def _starve(self, stream: Stream) -> None:
        """No memory for what came: that stream is cut, and nothing else suffers."""
        self._break(stream, ResetReason.MEMORY)

    def _break(self, stream: Stream, reason: ResetReason) -> None:
        """Cut a stream whose users did not ask for it."""
        stream.reason = reason
        self.abort(stream, reason)
        self._wake_reader(stream)
        self._wake_writer(stream)

    def _retire_if_over(self, stream: Stream) -> None:
        if stream.is_over:
            self._inbound.discard(stream)
            self.streams.retire(stream)

    def _grant(self, stream: Stream) -> None:
        """Let the peer send on, further the faster our reader is."""
        if stream.receiving is Receiving.OPEN:
            limit = self._credit.stream_limit(stream.consumed, stream.granted)
            if limit is not None:
                stream.granted = limit
                self._outbound.grant(stream.number, limit)
        self._grant_session()

    def _grant_session(self) -> None:
        limit = self._credit.grant()
        if limit is not None:
            self._outbound.grant(SESSION, limit)

    def _relieve(self, now: float) -> None:
        """Credit is exhausted: lend the readers that keep up what the others hold, or cut one."""
        if not self._credit.is_exhausted:
            return
        stalled = [each for each in self.streams if _stalled_since(each) <= now - STALL_CHECK]
        held = sum(each.inbox.size for each in stalled if each.inbox is not None)
        self._credit.extra = min(held, self._held.limit - self._credit.window)
        self._grant_session()
        if held - self._credit.extra > self._credit.window // 2:
            worst = min(stalled, key=_stalled_since)
            if _stalled_since(worst) <= now - STALLED_AFTER:
                self._break(worst, ResetReason.STALLED)

    # --- the end --------------------------------------------------------------------------------

    def _end(self, reason: CloseReason) -> None:
        self.closed = reason
        for frame in self._carriers.frames():
            self._outbound.settle(frame)
        for stream in self.streams:
            self._outbound.drop(stream)
            self._inbound.release(stream)
            self.woken.append(stream)
        self.trim()

    def _say_goodbye(self, carrier: Carrier, view: memoryview) -> int:
        if carrier.number in self._goodbye or self.closed is None:
            return 0
        self._goodbye.add(carrier.number)
        frame = pack(Kind.CLOSE, SESSION, 0, bytes((self.closed,)))
        view[: len(frame)] = frame
        return len(frame)


def _stalled_since(stream: Stream) -> float:
    inbox = stream.inbox
    return inbox.moved_at if inbox is not None and inbox.size else NEVER


def _reason(payload: bytes) -> ResetReason:
    """Reasons of later versions count as a failure."""
    try:
        return ResetReason(payload[0])
    except ValueError:
        return ResetReason.FAILURE


def _close_reason(payload: bytes) -> CloseReason:
    try:
        return CloseReason(payload[0])
    except ValueError:
        return CloseReason.DONE
