"""What both directions of the engine share, and what follows when a stream or the session ends."""

from __future__ import annotations

from random import Random

from circumvent.memory import Account
from circumvent.session.engine.blocks import Blocks
from circumvent.session.engine.carrier import NEVER
from circumvent.session.engine.carrier_table import CarrierTable
from circumvent.session.engine.credit import ReceiveCredit
from circumvent.session.engine.limits import (
    GRANTED_SHARE,
    STALL_CHECK,
    STALLED_AFTER,
    SessionLimits,
)
from circumvent.session.engine.receiver import Receiver
from circumvent.session.engine.sender import Sender
from circumvent.session.engine.stream import EngineStream, Receiving, Sending, StreamEvent
from circumvent.session.engine.stream_table import StreamTable
from circumvent.wire.frames import SESSION, CloseReason, ResetReason


class EngineState:
    """The tables of one session, and the changes that concern several of them.

    The driver reads and empties ``woken`` (streams whose waiting reader or writer may go on) and
    ``accepted`` (streams that the peer opened, and what for). ``closed`` says why the session is
    over, None while it is not; ``is_sooner``, whether something may be due earlier than
    ``Engine.deadline`` last said; ``repeated`` counts bytes of DATA that came again.
    """

    __slots__ = (
        "accepted",
        "carriers",
        "closed",
        "credit",
        "held",
        "is_sooner",
        "receiver",
        "repeated",
        "sender",
        "streams",
        "woken",
    )

    def __init__(
        self, account: Account, limits: SessionLimits, random: Random, *, is_client: bool
    ) -> None:
        self.woken: list[EngineStream] = []
        self.accepted: list[tuple[EngineStream, bytes]] = []
        self.closed: CloseReason | None = None
        self.repeated = 0
        self.is_sooner = True
        self.streams = StreamTable(limits.streams, is_client=is_client)
        self.sender = Sender(Blocks(account, limits.send), self.wake_writer, self.retire_if_over)
        self.held = Blocks(account, limits.receive)
        self.credit = ReceiveCredit(limits.receive // GRANTED_SHARE)
        self.receiver = Receiver(self.held, self.credit, self._make_room, self._on_no_memory)
        self.carriers = CarrierTable(self.sender.settle_all, self.sender.requeue, random)
        self.grant_session()

    # --- streams --------------------------------------------------------------------------------

    def wake_reader(self, stream: EngineStream) -> None:
        """Let its reader go on, if it waits and can read something."""
        if stream.waits_to_read and stream.is_readable:
            stream.waits_to_read = False
            self.woken.append(stream)

    def wake_writer(self, stream: EngineStream) -> None:
        """Let its writer go on, if it waits."""
        if stream.waits_to_write:
            stream.waits_to_write = False
            self.woken.append(stream)

    def stop(self, stream: EngineStream, reason: ResetReason = ResetReason.CANCELLED) -> None:
        """Read no more: drop what comes, and ask the peer to stop."""
        if not stream.is_at_end and stream.receive_event(StreamEvent.STOP):
            self.sender.stop(stream, reason)
            self.receiver.discard(stream)
            self.grant_session()
        self.retire_if_over(stream)

    def abort(self, stream: EngineStream, reason: ResetReason = ResetReason.CANCELLED) -> None:
        """Cut both directions."""
        self.sender.cut(stream, reason)
        self.stop(stream, reason)

    def retire_if_over(self, stream: EngineStream) -> None:
        """Forget a stream when both directions are done."""
        if stream.is_over:
            self.receiver.discard(stream)
            self.streams.retire(stream)
            self.woken.append(stream)

    def _make_room(self, stream: EngineStream, now: float) -> bool:
        """Cut whoever was not read for longest, if that is another one and it is stalled.

        Blocks are not always full: so they may be used up before the credit is.
        """
        worst = min(self.streams, key=_stalled_since)
        if worst is stream or _stalled_since(worst) > now - STALL_CHECK:
            return False
        self._break(worst, ResetReason.STALLED)
        return True

    def _on_no_memory(self, stream: EngineStream) -> None:
        """Cut a stream for whose data there is no memory; the others go on."""
        self._break(stream, ResetReason.MEMORY)

    def _break(self, stream: EngineStream, reason: ResetReason) -> None:
        """Cut a stream whose users did not ask for it."""
        stream.reason = reason
        self.abort(stream, reason)
        self.wake_reader(stream)
        self.wake_writer(stream)

    # --- credit ---------------------------------------------------------------------------------

    def grant(self, stream: EngineStream) -> None:
        """Let the peer send on, further the faster our reader is."""
        if stream.receiving is Receiving.OPEN:
            limit = self.credit.stream_limit(stream.consumed, stream.granted)
            if limit is not None:
                stream.granted = limit
                self.sender.grant(stream.number, limit)
        self.grant_session()

    def grant_session(self) -> None:
        """Let the peer send on in all."""
        limit = self.credit.grant()
        if limit is not None:
            self.sender.grant(SESSION, limit)

    def relieve(self, now: float) -> None:
        """Grant more by what stalled streams hold; when they hold too much, cut one of them."""
        if not self.credit.is_exhausted:
            return
        stalled = [each for each in self.streams if _stalled_since(each) <= now - STALL_CHECK]
        held = sum(each.inbox.size for each in stalled if each.inbox is not None)
        self.credit.extra = min(held, self.held.limit - self.credit.window)
        self.grant_session()
        if held - self.credit.extra > self.credit.window // 2:
            worst = min(stalled, key=_stalled_since)
            if _stalled_since(worst) <= now - STALLED_AFTER:
                self._break(worst, ResetReason.STALLED)

    # --- the end --------------------------------------------------------------------------------

    def close(self, reason: CloseReason) -> None:
        """End the session: drop all data and wake every reader and writer."""
        if self.closed is not None:
            return
        self.closed = reason
        self.sender.settle_all(self.carriers.frames())
        for stream in self.streams:
            self.sender.drop(stream)
            self.receiver.release(stream)
            stream.sending, stream.receiving = Sending.CUT, Receiving.CUT
            stream.waits_to_read = stream.waits_to_write = False
            self.woken.append(stream)


def _stalled_since(stream: EngineStream) -> float:
    inbox = stream.inbox
    return inbox.moved_at if inbox is not None and inbox.size else NEVER
