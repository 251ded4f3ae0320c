"""The dispatcher: gives each new stream a tunnel, and another one when that fails in time.

Most proxy protocols say nothing when a stream opens. So the client hears "connected" at once,
and its first flight stays unread in the kernel until the tunnel has answered, if it is one
complete TLS ClientHello: only that may be sent twice. Nothing is copied to keep it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from circumvent.api.streams import ByteStream, LayerStream, PeekStream
from circumvent.errors import CircumventError, DestinationError, DialError
from circumvent.net.pump import FIRST_READ, move, pump, settle
from circumvent.tunnels.health import Health
from circumvent.tunnels.live import LiveTunnel, Relay, State
from circumvent.tunnels.manager import TunnelManager
from circumvent.wire.address import Destination
from circumvent.wire.client_hello import is_complete_client_hello

OPEN_SECONDS = 3.0  # a server that takes longer to shake hands is tried no further
CLIENT_SPEAKS_WITHIN = 0.03  # seconds; clients are local, so who is silent waits for the server
MAX_TRIES = 3
FIRST_FLIGHT = 4096  # a ClientHello with post-quantum key shares has about 1.8 KiB
_HANDSHAKE = 22  # RFC 8446 §5.1: content type of a ClientHello


class Dispatcher:
    """Carries clients over the manager's tunnels."""

    def __init__(self, manager: TunnelManager, health: Health) -> None:
        self._manager = manager
        self._health = health

    async def relay(
        self,
        client: PeekStream,
        destination: Destination,
        accept: Callable[[], Awaitable[None]],
    ) -> None:
        """Carry ``client`` to ``destination`` until both are done.

        Calls ``accept`` once, when the client shall hear that it worked. Raises NoTunnelError,
        RemoteError only before that; later failures reset the client.
        """
        tried: set[LiveTunnel] = set()
        accepted = False
        while True:
            try:
                live = await self._manager.pick(tried)
                if not (accepted or live.tunnel.replies):
                    accepted = True
                    await accept()
                stream = await self._open(live, destination)
                if stream is None:
                    tried.add(live)
                    self._give_up_after(tried)
                    continue
                if not accepted:
                    accepted = True
                    await accept()
            except CircumventError:
                if not accepted:
                    raise
                client.abort()
                return
            if await self._carry(Relay(live, client, stream), client):
                return
            tried.add(live)

    async def open(self, destination: Destination) -> ByteStream:
        """A stream of any tunnel; the caller closes it. Raises NoTunnelError, RemoteError."""
        tried: set[LiveTunnel] = set()
        while True:
            live = await self._manager.pick(tried)
            stream = await self._open(live, destination)
            if stream is not None:
                return _Charged(stream, live)
            tried.add(live)
            self._give_up_after(tried)

    async def _open(self, live: LiveTunnel, destination: Destination) -> ByteStream | None:
        """A charged stream, or None when this tunnel's server is out of reach."""
        cost = live.candidate.transport.cost.stream
        await live.account.reserve(cost)
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return await live.tunnel.open(destination)
        except BaseException as error:
            live.account.discharge(cost)
            if isinstance(error, DestinationError) or not _is_failure(error):
                raise
            self._health.doubt(live)
            return None

    def _give_up_after(self, tried: set[LiveTunnel]) -> None:
        if len(tried) >= MAX_TRIES:
            message = f"{MAX_TRIES} tunnels failed to open a stream"
            raise DialError(message, stage="dispatch")

    async def _carry(self, relay: Relay, client: PeekStream) -> bool:
        """True when the stream is over; False when nothing was lost and another may try."""
        live, stream = relay.live, relay.stream
        live.relays.add(relay)
        try:
            flight = await self._first_flight(relay, client)
            if flight and not await self._answered(relay, client, flight):
                return False
            await _both_ways(relay)
        except CircumventError:
            self._failed(relay)
        else:
            await stream.aclose()
        finally:
            live.relays.discard(relay)
            stream.abort()
            live.account.discharge(live.candidate.transport.cost.stream)
        return True

    def _failed(self, relay: Relay) -> None:
        relay.client.abort()
        if not relay.heard_bytes and relay.live.state is State.UP:
            self._health.doubt(relay.live)

    async def _first_flight(self, relay: Relay, client: PeekStream) -> int:
        """Send what may be sent twice and leave it unread; returns its length, or 0.

        Where the client is silent, the tunnel's header goes out alone: the server speaks first.
        """
        account, stream = relay.live.account, relay.stream
        for last_try in (False, True):
            start = stream.headroom
            with await account.step(start + FIRST_FLIGHT, start + FIRST_FLIGHT) as lease:
                count = client.peek_into(lease.view[start : start + FIRST_FLIGHT])
                if count is None and last_try:
                    stream.write(lease.view, start, start)
                    await settle(stream)
                if count and lease.view[start] == _HANDSHAKE:
                    return await _send_hello(relay, lease.view, start, start + count)
            if count is not None or last_try:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLIENT_SPEAKS_WITHIN):
                    await client.wait_readable()
        return 0

    async def _answered(self, relay: Relay, client: PeekStream, flight: int) -> bool:
        """Wait for the first answer and pass it on; then the first flight counts as read."""
        relay.sent(flight)
        try:
            count = await move(relay.stream, relay.client, relay.live.account, FIRST_READ)
        except CircumventError:
            count = 0
        if not count:
            if relay.live.state is State.UP:
                self._health.doubt(relay.live)
            return False
        relay.heard(count)
        client.discard(flight)
        return True


async def _send_hello(relay: Relay, block: memoryview, start: int, end: int) -> int:
    if not is_complete_client_hello(block[start:end]):
        return 0
    relay.stream.write(block, start, end)
    await settle(relay.stream)
    return end - start


async def _both_ways(relay: Relay) -> None:
    """Pump in both directions; a failure of one cuts both. Raises what failed first."""
    account = relay.live.account
    down = asyncio.get_running_loop().create_task(_down(relay))
    try:
        await pump(relay.client, relay.stream, account, relay.sent)
    except BaseException:
        _cut(relay)
        with contextlib.suppress(CircumventError):
            await down
        raise
    await down


async def _down(relay: Relay) -> None:
    try:
        await pump(relay.stream, relay.client, relay.live.account, relay.heard)
    except BaseException:
        _cut(relay)
        raise


def _cut(relay: Relay) -> None:
    relay.client.abort()
    relay.stream.abort()


def _is_failure(error: BaseException) -> bool:
    return isinstance(error, CircumventError | TimeoutError)


class _Charged(LayerStream):
    """Gives the stream's charge back when it closes."""

    __slots__ = ("_live",)

    def __init__(self, stream: ByteStream, live: LiveTunnel) -> None:
        super().__init__(stream)
        self._live: LiveTunnel | None = live

    async def aclose(self) -> None:
        self._discharge()
        await super().aclose()

    def abort(self) -> None:
        self._discharge()
        super().abort()

    def _discharge(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.account.discharge(live.candidate.transport.cost.stream)
