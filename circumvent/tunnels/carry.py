"""Carries one client over one tunnel, and can tell whether another tunnel may still try.

The client's first flight stays unread in the kernel until the tunnel has answered, if it is one
complete TLS ClientHello: only that may be sent twice. Nothing is copied to keep it.
"""

from __future__ import annotations

import asyncio
import contextlib

from circumvent.api.streams import PeekStream
from circumvent.errors import CircumventError
from circumvent.net.pump import FIRST_READ, finish, move, settle, transfer
from circumvent.net.sockets import delivered
from circumvent.tunnels.faults import plugin_faults
from circumvent.tunnels.live import Relay
from circumvent.wire.client_hello import is_complete_client_hello

CLIENT_SPEAKS_WITHIN = 0.03  # seconds; clients are local, so who is silent waits for the server
FIRST_FLIGHT = 4096  # a ClientHello with post-quantum key shares has about 1.8 KiB
_HANDSHAKE = 22  # RFC 8446 §5.1: content type of a ClientHello


async def carry(relay: Relay, client: PeekStream) -> bool:
    """Both ways until both are done; what broke it is noted in the relay, and both sides cut.

    False: the tunnel failed, but the client's first flight is unread; another tunnel may try.
    """
    transport = relay.live.candidate.transport.name
    try:
        with plugin_faults(transport):
            await _first_flight(relay, client)
    except CircumventError as error:
        relay.fail(error, is_clients_fault=error.stage == "read")
        if relay.is_tunnels_fault:  # all that the client said is unread
            return False
        relay.cut()
        return True
    up = asyncio.get_running_loop().create_task(_up(relay, client))
    try:
        answered = await _down(relay, client)
        if answered:
            await up
    except asyncio.CancelledError:
        if up.done() and not up.cancelled() and relay.error is None:
            await relay.stream.aclose()  # all that the client said may be still on its way
        raise
    finally:
        if not up.done():
            up.cancel()
            await asyncio.wait([up])
    if not answered:
        client.expect(1)
    return answered


async def _first_flight(relay: Relay, client: PeekStream) -> None:
    """Send what may be sent twice and leave it unread.

    Where the client is silent, the tunnel's header goes out alone: the server speaks first.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLIENT_SPEAKS_WITHIN):
            await client.wait_readable()
    account, stream = relay.live.account, relay.stream
    start = stream.headroom
    size = start + FIRST_FLIGHT
    with account.try_step(size, size) or await account.step(size, size) as lease:
        flight = lease.view[start : start + FIRST_FLIGHT]
        count = client.peek_into(flight)
        if not count:
            await _send(relay, lease.view, start, start)
        elif flight[0] == _HANDSHAKE and is_complete_client_hello(flight[:count]):
            await _send(relay, lease.view, start, start + count)
            relay.flight = count
            relay.sent(count)


async def _send(relay: Relay, block: memoryview, start: int, end: int) -> None:
    start += relay.stream.write(block, start, end)
    await finish(block, relay.stream, start, end)


def _commit(relay: Relay, client: PeekStream) -> None:
    """From now on the first flight counts as read, and nobody else may send it."""
    if relay.flight:
        client.expect(1)
        client.discard(relay.flight)
        relay.flight = 0


async def _up(relay: Relay, client: PeekStream) -> None:
    """From the client to the tunnel. A client that says more, or leaves, commits its flight."""
    try:
        with plugin_faults(relay.live.candidate.transport.name):
            if relay.flight:
                client.expect(relay.flight + 1)
                await client.wait_readable()
                _commit(relay, client)
            await transfer(client, relay.stream, relay.live.account, relay.sent)
            if not relay.over:  # else both sides are through, and closing says it all
                relay.stream.write_eof()
                await settle(relay.stream)
    except CircumventError as error:
        relay.fail(error, is_clients_fault=error.stage == "read")
        if error.stage != "write":  # else the far side hears no more, but may have answered
            relay.cut()


async def _down(relay: Relay, client: PeekStream) -> bool:
    """From the tunnel to the client; False when it ended without a word, unless committed.

    When it breaks, the client is reset once it has all that came before.
    """
    account = relay.live.account
    try:
        with plugin_faults(relay.live.candidate.transport.name):
            count = await move(relay.stream, client, account, FIRST_READ)
            if count:
                relay.heard(count)
                _commit(relay, client)
                await transfer(relay.stream, client, account, relay.heard)
            elif relay.flight:
                return False
            if relay.error is None:  # else the end may be that of a connection that broke
                client.write_eof()
                relay.ended()
                return True
    except CircumventError as error:
        relay.fail(error, is_clients_fault=error.stage == "write")
        if relay.flight and relay.is_tunnels_fault:
            return False
    relay.stream.abort()
    if not relay.is_clients_fault:
        await delivered(client)
    relay.cut()
    return True
