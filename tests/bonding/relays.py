"""A relay's host of sessions in memory, and a carrier that reaches it in the clear."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from circumvent.api import Account, ByteStream, Carrier, CarrierPipe, Cost, Dialer, ServerEntry
from circumvent.errors import CircumventError, DestinationError, Reason
from circumvent.layers.exchange import receive, send
from circumvent.memory import Memory
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.host import SessionHost
from circumvent.tunnels.bonded import BondedTunnel
from circumvent.tunnels.carrier_routes import CarrierRoutes, RouteHistory, find_routes
from circumvent.wire.address import Destination
from tests.virtual.loop import loop_clock
from tests.virtual.network import Listener, MemoryDialer
from tests.virtual.stream import End, MemoryStream, pair

BINDING = 16
CREDENTIAL = b"invited "


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
    """Accepts carriers while it ``is_open``; ``destinations`` are what its streams lead to."""

    host: SessionHost
    memory: Memory
    destinations: list[End] = field(default_factory=list)
    asked: list[Destination] = field(default_factory=list)
    accepted: list[MemoryStream] = field(default_factory=list)
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
    near, far = pair()
    relay.destinations.append(End(far))
    return near


def verify(credential: bytes, binding: bytes) -> str | None:
    return "somebody" if credential == CREDENTIAL + binding else None


@asynccontextmanager
async def running_relay(limits: SessionLimits | None = None) -> AsyncIterator[Relay]:
    memory = Memory(8 << 20, poison=True)
    account = memory.account("sessions")

    async def opened(_: str, destination: Destination) -> ByteStream:
        return await open_destination(relay, destination)

    host = SessionHost(account, limits or SessionLimits(1 << 20, 2 << 20), verify, opened)
    relay = Relay(host, memory)
    async with asyncio.TaskGroup() as group:

        def accept(stream: MemoryStream) -> None:
            if not relay.is_open:
                stream.abort()
                return
            relay.accepted.append(stream)
            group.create_task(serve(relay, stream, account))

        listener = Listener(accept)
        relay.port = listener.port
        listener.listen()
        try:
            yield relay
        finally:
            listener.close()
            await relay.host.aclose()
            relay.cut_all()
    assert account.leased == 0


async def serve(relay: Relay, stream: MemoryStream, account: Account) -> None:
    with suppress(CircumventError):
        binding = await receive(stream, account, BINDING)
        await relay.host.serve_carrier(stream, binding)


@asynccontextmanager
async def tunnel_to(
    relay: Relay,
    *carriers: Carrier,
    credential: bytes = CREDENTIAL,
    memory: Memory | None = None,
    dialer: MemoryDialer | None = None,
    past: RouteHistory | None = None,
) -> AsyncIterator[BondedTunnel]:
    memory = memory or Memory(8 << 20, poison=True)
    account = memory.account("tunnel")
    entry = ServerEntry("relay", "127.0.0.1", relay.port, "", "relay://x", None)
    reachable = (dialer or MemoryDialer()).for_plugins
    found = await find_routes(carriers or (ClearCarrier(),), entry.host, reachable, None)
    routes = CarrierRoutes(found, past, "it", loop_clock())
    tunnel = BondedTunnel(entry, routes, account, lambda binding: credential + binding)
    try:
        await tunnel.start()
        yield tunnel
    finally:
        await tunnel.aclose()
        assert account.leased == account.charged == 0
