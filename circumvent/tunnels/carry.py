"""Carries one client over one tunnel, and says whether another tunnel may still try.

If the client's first flight is one complete TLS ClientHello, it stays unread until the tunnel has
answered: only that may be sent twice. The client's stream keeps it (a socket in the kernel).
"""

from __future__ import annotations

import asyncio
import random

from circumvent.api.streams import ReplayableStream
from circumvent.errors import CircumventError
from circumvent.net.pump import FIRST_READ, finish, move, settle, transfer
from circumvent.net.sockets import delivered
from circumvent.tasks import dismiss
from circumvent.tunnels.faults import plugin_faults
from circumvent.tunnels.live import UserStream
from circumvent.wire.client_hello import is_complete_client_hello

# A tunnel's header that is sent alone reveals the length of the visited name. So at ports where
# clients send first, as in HTTP and TLS, we wait for a client that is silent.
CLIENTS_SPEAK_FIRST = frozenset((80, 443, 465, 853, 990, 993, 995, 5223, 8000, 8080, 8443, 8888))
CLIENT_SPEAKS_WITHIN = {
    True: (1.0, 2.0),  # longer than a busy machine or a slow Wi-Fi needs from "connected" to hello
    False: (0.03, 0.06),  # seconds; local clients that send first have sent by then
}
FIRST_FLIGHT = 4096  # a ClientHello with post-quantum key shares has about 1.8 KiB
_HANDSHAKE = 22  # RFC 8446 §5.1: content type of a ClientHello


async def carry_client(user_stream: UserStream, client: ReplayableStream, port: int) -> bool:
    """Move bytes both ways until both are done; an error is noted and breaks both sides.

    ``port`` of the destination says whether the client is likely to send first. Returns False when
    the tunnel failed while the client's first flight is unread: another tunnel may try.
    """
    transport = user_stream.live.candidate.transport.name
    try:
        with plugin_faults(transport):
            await _first_flight(user_stream, client, port)
    except CircumventError as error:
        user_stream.fail(error, is_clients_fault=error.stage == "read")
        if user_stream.is_tunnels_fault:  # all that the client sent is unread
            return False
        user_stream.cut()
        return True
    up = asyncio.get_running_loop().create_task(_up(user_stream, client))
    try:
        answered = await _down(user_stream, client)
        if answered:
            await up
    except asyncio.CancelledError:
        if up.done() and not up.cancelled() and user_stream.error is None:
            await user_stream.stream.aclose()  # what the client sent may be still on its way
        raise
    finally:
        if not up.done():
            await dismiss((up,))
    if not answered:
        client.expect(1)
    return answered


async def _first_flight(user_stream: UserStream, client: ReplayableStream, port: int) -> None:
    """Send a first flight that may be sent twice, and leave it unread.

    When the client stays silent, send the tunnel's header alone: the server may send first.
    """
    least, most = CLIENT_SPEAKS_WITHIN[port in CLIENTS_SPEAK_FIRST]
    until = asyncio.get_running_loop().time() + random.uniform(least, most)  # noqa: S311
    account, stream = user_stream.live.account, user_stream.stream
    start = stream.headroom
    size = start + FIRST_FLIGHT
    while True:
        is_late = not await _has_sent(client, until)
        with account.try_step(size, size) or await account.step(size, size) as lease:
            flight = lease.view[start:size]
            count = client.peek_into(flight)
            if count is None and not is_late:
                continue
            if not count:
                await _send(user_stream, lease.view, start, start)
            elif flight[0] == _HANDSHAKE and is_complete_client_hello(flight[:count]):
                await _send(user_stream, lease.view, start, start + count)
                user_stream.flight = count
                user_stream.sent(count)
            return


async def _has_sent(client: ReplayableStream, until: float) -> bool:
    """Wait until ``client`` may have sent something; False when it has not by ``until``."""
    try:
        async with asyncio.timeout_at(until):
            await client.wait_readable()
    except TimeoutError:
        return False
    return True


async def _send(user_stream: UserStream, block: memoryview, start: int, end: int) -> None:
    start += user_stream.stream.write(block, start, end)
    await finish(block, user_stream.stream, start, end)


def _commit(user_stream: UserStream, client: ReplayableStream) -> None:
    """Count the first flight as read: no other tunnel may send it now."""
    if user_stream.flight:
        client.expect(1)
        client.discard(user_stream.flight)
        user_stream.flight = 0


async def _up(user_stream: UserStream, client: ReplayableStream) -> None:
    """Move bytes to the tunnel. When the client sends more, or ends, its flight is committed."""
    try:
        with plugin_faults(user_stream.live.candidate.transport.name):
            if user_stream.flight:
                client.expect(user_stream.flight + 1)
                await client.wait_readable()
                _commit(user_stream, client)
            await transfer(client, user_stream.stream, user_stream.live.account, user_stream.sent)
            if not user_stream.over:  # else both sides are done, and closing is enough
                user_stream.stream.write_eof()
                await settle(user_stream.stream)
    except CircumventError as error:
        user_stream.fail(error, is_clients_fault=error.stage == "read")
        if error.stage != "write":  # else the far side reads no more, but may have answered
            user_stream.cut()


async def _down(user_stream: UserStream, client: ReplayableStream) -> bool:
    """Move bytes to the client; False when the tunnel fails before an answer and may be replaced.

    When the tunnel breaks later, the client is reset once it has all that came before.
    """
    account = user_stream.live.account
    try:
        with plugin_faults(user_stream.live.candidate.transport.name):
            count = await move(user_stream.stream, client, account, FIRST_READ)
            if count:
                user_stream.received(count)
                _commit(user_stream, client)
                await transfer(user_stream.stream, client, account, user_stream.received)
            elif user_stream.flight:
                return False
            if user_stream.error is None:  # else the end may be that of a connection that broke
                client.write_eof()
                user_stream.ended()
                return True
    except CircumventError as error:
        user_stream.fail(error, is_clients_fault=error.stage == "write")
        if user_stream.flight and user_stream.is_tunnels_fault:
            return False
    user_stream.stream.abort()
    if not user_stream.is_clients_fault:
        await delivered(client, user_stream.live.timings.taken)
    user_stream.cut()
    return True
