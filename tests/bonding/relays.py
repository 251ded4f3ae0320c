"""A relay's host of sessions on loopback, and a carrier that reaches it in the clear."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from circumvent.api import Account, ByteStream, Carrier, CarrierPipe, Cost, Dialer, ServerEntry
from circumvent.errors import CircumventError, DestinationError, Reason
from circumvent.layers.exchange import receive, send
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.net.tcp import TcpStream
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.host import SessionHost
from circumvent.testing.far_end import Codec, FarEnd, connected
from circumvent.tunnels.bonded import BondedTunnel
from circumvent.tunnels.carrier_routes import CarrierRoutes, find_routes
from circumvent.wire.address import Destination

BINDING = 16
CREDENTIAL = b"invited "
BUFFER = 128 * 1024


class ClearCarrier(Carrier):
    """TCP; the binding is some random bytes that both ends have seen."""

    cost = Cost(dial=0, stream=0)

    def __init__(self, name: str = "clear") -> None:
        self.name = name
        self.dialed = 0
        self.streams: list[ByteStream] = []

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> CarrierPipe:
        self.dialed += 1
        stream = await dialer.tcp(entry.host, entry.port)
        try:
            binding = os.urandom(BINDING)
            await send(stream, account, binding)
        except BaseException:
            stream.abort()
            raise
        self.streams.append(stream)
        return CarrierPipe(stream, binding)


@dataclass(eq=False)
class Relay:
    """``port`` listens while ``is_open``; ``destinations`` are what its streams were opened to."""

    host: SessionHost
    memory: Memory
    destinations: list[FarEnd] = field(default_factory=list)
    asked: list[Destination] = field(default_factory=list)
    accepted: list[TcpStream] = field(default_factory=list)
    port: int = 0
    is_open: bool = True

    def cut_all(self) -> None:
        """Every carrier breaks."""
        for stream in self.accepted:
            stream.abort()
        self.accepted.clear()


async def open_destination(relay: Relay, destination: Destination) -> ByteStream:
    relay.asked.append(destination)
    if destination.port == 1:
        raise DestinationError(Reason.REFUSED)
    near, far = connected(small=BUFFER, receive=BUFFER)
    relay.destinations.append(FarEnd(far, Codec()))
    return TcpStream(near)


def verify(credential: bytes, binding: bytes) -> str | None:
    return "somebody" if credential == CREDENTIAL + binding else None


@asynccontextmanager
async def running_relay(limits: SessionLimits | None = None) -> AsyncIterator[Relay]:
    memory = Memory(8 << 20, poison=True)
    account = memory.account("sessions")

    async def opened(_: str, destination: Destination) -> ByteStream:
        return await open_destination(relay, destination)

    relay = Relay(
        SessionHost(account, limits or SessionLimits(1 << 20, 2 << 20), verify, opened), memory
    )
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    relay.port = listener.getsockname()[1]
    async with asyncio.TaskGroup() as group:
        accepting = group.create_task(accept(relay, listener, account, group))
        try:
            yield relay
        finally:
            accepting.cancel()
            listener.close()
            await relay.host.aclose()
            relay.cut_all()
            for end in relay.destinations:
                end.close()
    assert account.leased == 0


async def accept(
    relay: Relay, listener: socket.socket, account: Account, group: asyncio.TaskGroup
) -> None:
    while True:
        sock, _ = await asyncio.get_running_loop().sock_accept(listener)
        sock.setblocking(False)
        if not relay.is_open:
            sock.close()
            continue
        stream = TcpStream(sock)
        relay.accepted.append(stream)
        group.create_task(serve(relay, stream, account))


async def serve(relay: Relay, stream: TcpStream, account: Account) -> None:
    with suppress(CircumventError):
        binding = await receive(stream, account, BINDING)
        await relay.host.serve_carrier(stream, binding)


@asynccontextmanager
async def tunnel_to(
    relay: Relay,
    *carriers: Carrier,
    credential: bytes = CREDENTIAL,
    memory: Memory | None = None,
) -> AsyncIterator[BondedTunnel]:
    memory = memory or Memory(8 << 20, poison=True)
    account = memory.account("tunnel")
    entry = ServerEntry("relay", "127.0.0.1", relay.port, "", "relay://x", None)
    routes = await find_routes(
        carriers or (ClearCarrier(),), entry.host, NetDialer(TlsClient()), None
    )
    tunnel = BondedTunnel(
        entry, CarrierRoutes(routes), account, lambda binding: credential + binding
    )
    try:
        await tunnel.start()
        yield tunnel
    finally:
        await tunnel.aclose()
        assert account.leased == account.charged == 0
