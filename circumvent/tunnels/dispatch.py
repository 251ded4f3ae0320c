"""The dispatcher: gives each new stream a tunnel, and another one when that fails in time.

Most proxy protocols send no reply when a stream opens. So the client is told "connected" at once,
and a tunnel that fails before it has answered is replaced without the client's knowledge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from circumvent.api.layer import LayerStream
from circumvent.api.streams import ByteStream, ReplayableStream
from circumvent.errors import (
    BudgetError,
    CircumventError,
    DestinationError,
    DialError,
    NoTunnelError,
)
from circumvent.net.patience import Patience
from circumvent.state.attempts import AttemptTable, attempt_record
from circumvent.tunnels.carry import carry_client
from circumvent.tunnels.faults import plugin_faults
from circumvent.tunnels.health import Health
from circumvent.tunnels.live import LiveTunnel, TunnelState, UserStream
from circumvent.tunnels.manager import TunnelManager
from circumvent.wire.address import Destination

MAX_TRIES = 3
WAIT_FOR_MEMORY = 10.0  # seconds; as for a tunnel, and then the client is told why
MAX_UNANSWERED = 3  # streams in a row without any answer: probe, it may be the tunnel


class Dispatcher:
    """Carries clients over the manager's tunnels."""

    def __init__(self, manager: TunnelManager, health: Health, attempts: AttemptTable) -> None:
        self._manager = manager
        self._health = health
        self._attempts = attempts

    async def carry(
        self,
        client: ReplayableStream,
        destination: Destination,
        accept: Callable[[], Awaitable[None]],
    ) -> None:
        """Carry ``client`` to ``destination`` until both are done.

        Calls ``accept`` once, when the client may be told that it worked. Raises NoTunnelError,
        BudgetError, RemoteError only before that; later failures reset the client.
        """
        accepted = False

        async def accept_once() -> None:
            nonlocal accepted
            if not accepted:
                accepted = True
                await accept()

        tried = _Tried()
        try:
            while True:
                live = await self._manager.pick(tried.avoid)
                await _pay(live)
                stream = await self._open(live, destination, accept_once)
                if stream is not None:
                    user_stream = UserStream(live, stream, client)
                    if await self._carry_over(user_stream, client, destination.port, accept_once):
                        return
                tried.note(live, opened=stream is not None)
        except CircumventError:
            if not accepted:
                raise
            client.abort()

    async def open(self, destination: Destination, without: str = "") -> ByteStream:
        """A stream of any tunnel; the caller closes it. Raises NoTunnelError, RemoteError.

        ``without`` names a transport whose tunnels are left out.
        """
        tried = _Tried()
        while True:
            live = await self._manager.pick(tried.avoid.union(self._made_by(without)))
            if live in self._made_by(without):  # the only one that came up meanwhile
                raise NoTunnelError("no other tunnel is up", stage="dispatch")
            await _pay(live)
            stream = await self._open(live, destination)
            if stream is not None:
                return _TrackedStream(stream, live)
            tried.note(live, opened=False)

    def _made_by(self, transport: str) -> set[LiveTunnel]:
        return {
            live for live in self._manager.tunnels if live.candidate.transport.name == transport
        }

    async def _open(
        self,
        live: LiveTunnel,
        destination: Destination,
        accept: Callable[[], Awaitable[None]] | None = None,
    ) -> ByteStream | None:
        """A stream that was paid for, or None when this tunnel's server is out of reach.

        Where the server does not reply, ``accept`` is called before it is asked.
        """
        started = live.clock.now()
        try:
            if accept is not None and not live.tunnel.replies:
                await accept()
            if live.state is TunnelState.DEAD:  # since we waited for memory
                raise DialError("the tunnel was lost", stage="dispatch")
            with plugin_faults(live.candidate.transport.name):
                return await _open_in_time(live, destination)
        except BaseException as error:
            live.account.discharge(live.stream_cost)
            if isinstance(error, DestinationError) or not isinstance(error, CircumventError):
                raise
            if error.is_own_trouble:
                raise
            self._note_failure(live, started, error)
            self._health.doubt(live)
            return None

    async def _carry_over(
        self,
        user_stream: UserStream,
        client: ReplayableStream,
        port: int,
        accept: Callable[[], Awaitable[None]],
    ) -> bool:
        """True when the stream is over; False when nothing was lost and another may try."""
        live = user_stream.live
        live.streams.add(user_stream)
        try:
            await accept()
            is_over = await carry_client(user_stream, client, port)
            if user_stream.error is None:
                await user_stream.stream.aclose()
        finally:
            live.streams.discard(user_stream)
            user_stream.stream.abort()
            live.account.discharge(live.stream_cost)
        self._learn_from(user_stream)
        return is_over

    def _learn_from(self, user_stream: UserStream) -> None:
        live = user_stream.live
        if live.state is TunnelState.DEAD:
            return
        if user_stream.is_tunnels_fault:
            self._note_failure(live, user_stream.started, user_stream.error)
            is_doubtful = is_unanswered = not user_stream.received_bytes
        else:
            is_unanswered = user_stream.is_unanswered
            is_doubtful = is_unanswered and live.unanswered % MAX_UNANSWERED == MAX_UNANSWERED - 1
        live.unanswered += is_unanswered
        if is_doubtful:
            self._health.doubt(live)

    def _note_failure(
        self, live: LiveTunnel, started: float, error: CircumventError | None
    ) -> None:
        peak = live.account.high_water
        record = attempt_record("stream", live.candidate.id, started, peak, error, clock=live.clock)
        self._attempts.record(record)


async def _pay(live: LiveTunnel) -> None:
    """Charge for a stream, before it is opened; raises BudgetError."""
    cost = live.stream_cost
    if live.account.try_charge(cost):
        return
    try:
        async with asyncio.timeout(WAIT_FOR_MEMORY):
            await live.account.reserve(cost)
    except TimeoutError as error:
        raise BudgetError(
            "memory budget: no room for one more stream; close some, or raise --memory",
            stage="memory",
        ) from error


async def _open_in_time(live: LiveTunnel, destination: Destination) -> ByteStream:
    """Open until health gives up; raises DialError."""
    try:
        async with Patience() as patience:
            return await live.open(destination, patience)
    except TimeoutError as error:
        raise DialError("the server did not answer in time", stage="dispatch") from error


class _Tried:
    """The tunnels that failed one stream."""

    __slots__ = ("_count", "avoid")

    def __init__(self) -> None:
        self._count = 0
        self.avoid: set[LiveTunnel] = set()

    def note(self, live: LiveTunnel, *, opened: bool) -> None:
        """One more; raises DialError after the last.

        Where a stream was ``opened``, a tunnel that resumes has lost its session and makes a
        new one: it may be tried again.
        """
        self._count += 1
        if self._count >= MAX_TRIES:
            raise DialError(f"{MAX_TRIES} tunnels failed to open a stream", stage="dispatch")
        if not (opened and live.tunnel.resumes):
            self.avoid.add(live)


class _TrackedStream(LayerStream):
    """Notes for health what it moves, and gives its charge back when it closes."""

    __slots__ = ("_user_stream",)

    def __init__(self, stream: ByteStream, live: LiveTunnel) -> None:
        super().__init__(stream)
        self._user_stream = UserStream(live, stream, None)
        live.streams.add(self._user_stream)

    def write(self, block: memoryview, start: int, end: int) -> int:
        count = super().write(block, start, end)
        if count:
            self._user_stream.sent(count)
        return count

    def read_into(self, buffer: memoryview) -> int | None:
        count = super().read_into(buffer)
        if count:
            self._user_stream.received(count)
        elif count == 0:
            self._user_stream.ended()
        return count

    async def aclose(self) -> None:
        self._release()
        await super().aclose()

    def abort(self) -> None:
        self._release()
        super().abort()

    def _release(self) -> None:
        live = self._user_stream.live
        if self._user_stream in live.streams:
            live.streams.remove(self._user_stream)
            live.account.discharge(live.stream_cost)
