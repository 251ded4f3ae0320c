"""A stream of a session as a ByteStream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from circumvent.api.streams import ByteStream
from circumvent.errors import CircumventError, DestinationError, StreamResetError
from circumvent.net.readiness import NOW
from circumvent.session.engine.engine import Engine
from circumvent.session.engine.stream import EngineStream, Receiving, Sending
from circumvent.session.reset_reasons import REASONS, TEXTS
from circumvent.tasks import wake
from circumvent.wire.frames import ResetReason

_BROKEN = 1  # room that a cut stream reports: the write then raises the reason


class StreamSession(Protocol):
    """What a stream needs of its session."""

    loop: asyncio.AbstractEventLoop
    engine: Engine

    def wake_all(self) -> None:
        """Wake streams and carriers that may go on."""

    def wake_carriers(self) -> None:
        """Wake carriers that have something to write."""


class SessionStream(ByteStream):
    """Reads and writes one stream of ``session``; the session keeps what was written.

    So the stream never holds anything unsent, and closing it loses nothing.
    """

    __slots__ = ("_give_up", "_reader", "_session", "_stream", "_writer")
    is_strict = True

    def __init__(self, session: StreamSession, stream: EngineStream) -> None:
        self._session = session
        self._stream = stream
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._give_up: Callable[[], object] | None = None
        stream.owner = self

    def wake(self) -> None:
        """Let the reader and the writer go on, if they have nothing to wait for any more."""
        stream = self._stream
        if not stream.waits_to_read or stream.is_readable:
            wake(self._reader)
        if not stream.waits_to_write or stream.sending is not Sending.OPEN:
            wake(self._writer)
        if self._give_up is not None and self._stream.is_given_up:
            give_up, self._give_up = self._give_up, None
            give_up()

    @contextmanager
    def while_wanted(self, give_up: Callable[[], object]) -> Iterator[None]:
        """Call ``give_up`` as soon as the peer resets or closes the stream.

        Raises StreamResetError when it has already done so.
        """
        if self._stream.is_given_up:
            raise self._error("open")
        self._give_up = give_up
        try:
            yield
        finally:
            self._give_up = None

    def wait_readable(self) -> Awaitable[None]:
        if self._stream.is_readable:
            return NOW
        self._reader = waiter = self._session.loop.create_future()
        self._stream.waits_to_read = True
        return waiter

    def read_into(self, buffer: memoryview) -> int | None:
        session, stream = self._session, self._stream
        count = session.engine.read_into(stream, buffer, session.loop.time())
        if count:
            if session.engine.sender.has_control:
                session.wake_all()
            return count
        if stream.receiving in (Receiving.CUT, Receiving.STOPPED):
            raise self._error("read")
        return 0 if stream.is_at_end else None

    def room(self) -> int:
        if self._stream.sending is Sending.CUT:
            return _BROKEN
        return self._session.engine.sender.room(self._stream)

    def wait_writable(self) -> Awaitable[None]:
        if self.room():
            return NOW
        self._writer = waiter = self._session.loop.create_future()
        self._session.engine.sender.wait(self._stream)
        return waiter

    def write(self, block: memoryview, start: int, end: int) -> int:
        if self._stream.sending is Sending.CUT:
            raise self._error("write")
        engine, count = self._session.engine, 0
        if start < end:
            count = engine.write(self._stream, block[start:end])
        else:
            engine.sender.announce(self._stream)
        self._session.wake_carriers()
        return count

    @property
    def unsent(self) -> memoryview | None:
        return None

    @unsent.setter
    def unsent(self, view: memoryview | None) -> None:
        """Nothing is ever unsent."""

    def flush(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._session.engine.sender.end(self._stream)
        self._session.wake_all()

    async def aclose(self) -> None:
        engine = self._session.engine
        engine.sender.end(self._stream)
        engine.state.stop(self._stream)
        self._wake_both()

    def abort(self) -> None:
        self.cut(ResetReason.CANCELLED)

    def cut(self, reason: ResetReason) -> None:
        """As ``abort``, and send the peer the reason."""
        self._session.engine.state.abort(self._stream, reason)
        self._wake_both()

    def _wake_both(self) -> None:
        wake(self._reader)
        wake(self._writer)
        self.wake()
        self._session.wake_all()

    def _error(self, step: str) -> CircumventError:
        reason = self._stream.reason
        if reason in REASONS:
            return DestinationError(REASONS[reason])
        if self._session.engine.state.closed is not None:
            text = "the session with the relay is over"
        else:
            text = TEXTS.get(reason, "it was cut") if reason is not None else "it was cut"
        return StreamResetError(f"connection lost: {text}", stage=step)
