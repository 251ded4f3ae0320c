"""A relay that is blocked sees few TLS handshakes; one that works is not spared any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from circumvent.api import (
    Account,
    ByteStream,
    CarrierPipe,
    Dialer,
    HandshakeError,
    SecureStream,
    ServerEntry,
    TlsOptions,
)
from circumvent.layers.tls.layer import TlsLayer
from circumvent.memory import Memory
from circumvent.tunnels.backoff import Backoff, BackoffError
from circumvent.tunnels.bonded import BondedTunnel
from circumvent.tunnels.carrier_plan import CARRIERS
from circumvent.tunnels.carrier_routes import CarrierRoute, CarrierRoutes, RouteHistory
from circumvent.tunnels.relay_transport import RelayTransport
from circumvent.tunnels.timings import BackoffTimings, CarrierTimings
from tests.bonding.relays import ClearCarrier, Relay, running_relay, tunnel_to
from tests.unit.test_bonded_tunnel import up
from tests.unit.test_relay_link import GOOD
from tests.virtual.loop import loop_clock, until
from tests.virtual.network import MemoryDialer

pytestmark = pytest.mark.virtual_time
TIMINGS = BackoffTimings()


class Censor:
    """A TLS engine that counts handshakes; while it blocks the relay, each ends in a reset."""

    def __init__(self) -> None:
        self.dialer = MemoryDialer(self)
        self.handshakes = 0
        self.is_blocking = False

    async def start(self, stream: ByteStream, options: TlsOptions) -> SecureStream:
        self.handshakes += 1
        if self.is_blocking:
            stream.abort()
            raise HandshakeError(f"{options.server_name}: reset", stage="tls")
        return cast("SecureStream", stream)  # nobody looks

    def forget(self) -> None:
        """Nothing is remembered."""

    def block(self, relay: Relay) -> None:
        """From now on the relay is out of reach."""
        self.is_blocking, self.handshakes = True, 0
        relay.cut_all()

    async def block_for_long(self, relay: Relay) -> None:
        """As ``block``; returns when no handshake is tried for a minute."""
        self.block(relay)
        await until(lambda: self.handshakes == len(TIMINGS.pauses))


class TlsCarrier(ClearCarrier):
    """A carrier that begins with a handshake."""

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> CarrierPipe:
        pipe = await super().connect(entry, dialer, account)
        await TlsLayer(TlsOptions("relay.test")).start(pipe.stream)
        return pipe


@asynccontextmanager
async def reached(
    censor: Censor, *kinds: str
) -> AsyncIterator[tuple[Relay, BondedTunnel, RouteHistory]]:
    """A relay and a tunnel to it whose carriers have lived for a while."""
    past = RouteHistory(Backoff(TIMINGS))
    carriers = [TlsCarrier(kind) for kind in kinds or ("tls",)]
    async with (
        running_relay() as relay,
        tunnel_to(relay, *carriers, dialer=censor.dialer, past=past) as tunnel,
    ):
        await until(lambda: up(tunnel) == CARRIERS)
        await asyncio.sleep(2 * CarrierTimings().steady_after)
        yield relay, tunnel, past


@pytest.mark.parametrize("kinds", [("tls",), ("tls", "websocket", "fronted")])
async def test_a_blocked_relay_sees_six_handshakes_in_the_first_minute(
    kinds: tuple[str, ...],
) -> None:
    censor = Censor()
    async with reached(censor, *kinds) as (relay, _, past):
        censor.block(relay)
        await asyncio.sleep(60.0)
        assert 5 <= censor.handshakes <= 6
        # A new tunnel to the same relay knows what the old one did.
        again = [CarrierRoute(TlsCarrier("tls"), censor.dialer.for_plugins)]
        clock = loop_clock()
        assert CarrierRoutes(again, past, "it", clock).may_begin_at() > clock.now()


async def test_it_is_back_at_once_when_the_network_changed() -> None:
    censor = Censor()
    async with reached(censor) as (relay, tunnel, _):
        await censor.block_for_long(relay)
        censor.is_blocking = False
        tunnel.revalidate()
        assert await until(lambda: up(tunnel)) < 1.0


async def test_it_is_back_soon_when_somebody_waits_for_it() -> None:
    censor = Censor()
    async with reached(censor) as (relay, tunnel, past):
        await censor.block_for_long(relay)
        censor.is_blocking = False
        past.backoff.ask(loop_clock().now())
        most = TIMINGS.early_after + CarrierTimings().redial[1]
        assert await until(lambda: up(tunnel)) < most + 1.0


async def test_carriers_that_lived_are_replaced_at_once_again_and_again() -> None:
    censor = Censor()
    async with reached(censor) as (relay, tunnel, _):
        for _ in range(2 * len(TIMINGS.pauses)):
            relay.cut_all()
            await until(lambda: len(relay.accepted) >= CARRIERS and up(tunnel) == CARRIERS)
            await asyncio.sleep(2 * CarrierTimings().steady_after)
            assert up(tunnel) == CARRIERS


async def test_no_tunnel_is_begun_while_the_relay_is_spared() -> None:
    censor = Censor()
    censor.is_blocking = True
    transport = RelayTransport({"tls": TlsCarrier("tls")}, clock=loop_clock())
    memory = Memory(8 << 20)

    async def connect() -> None:
        await transport.connect(entry, censor.dialer.for_plugins, memory.account("tunnel"))

    async with running_relay() as relay:
        entry = transport.parse(GOOD.replace("192.0.2.1:443", f"127.0.0.1:{relay.port}"))
        with pytest.raises(HandshakeError, match="reset"):
            await connect()
        with pytest.raises(BackoffError):
            await connect()
        assert censor.handshakes == 1
        await asyncio.sleep(2 * TIMINGS.pauses[0])
        with pytest.raises(HandshakeError, match="reset"):
            await connect()
        assert censor.handshakes == 2
