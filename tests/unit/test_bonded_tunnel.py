"""A bonded tunnel keeps several carriers up; its streams notice nothing of what happens to them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest

from circumvent.api import (
    Account,
    ByteStream,
    CarrierPipe,
    DestinationError,
    Dialer,
    DialError,
    HandshakeError,
    Reason,
    SecureStream,
    ServerEntry,
    StreamResetError,
    TlsOptions,
)
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.layer import TlsLayer
from circumvent.memory import PAGE, Memory
from circumvent.net.dialer import NetDialer
from circumvent.session.handshake import RefusedError, send_hello
from circumvent.testing.far_end import FarEnd
from circumvent.testing.steps import read_all, read_exactly, read_once, write_all
from circumvent.tunnels import backoff as rests
from circumvent.tunnels import bonded
from circumvent.tunnels.bonded import CARRIERS, BondedTunnel
from circumvent.tunnels.carrier_routes import CarrierRoute, CarrierRoutes, RouteHistory
from circumvent.wire.address import Destination
from circumvent.wire.frames import CloseReason
from circumvent.wire.hello import Attach, Create, attach_proof
from tests.bonding.relays import CREDENTIAL, ClearCarrier, Relay, running_relay, tunnel_to

THERE = Destination("example.com", 80)
NOWHERE = Destination("example.com", 1)
SECONDS = 20.0  # far more than anything here takes


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bonded, "GROW_AFTER", (0.01, 0.02))


async def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - most conditions have no event
            await asyncio.sleep(0.005)


def up(tunnel: BondedTunnel) -> int:
    return sum(carrier.state == "up" for carrier in tunnel.carriers)


async def reached(relay: Relay, count: int = 1) -> FarEnd:
    """The destination that a stream was opened to."""
    await until(lambda: len(relay.destinations) >= count)
    return relay.destinations[count - 1]


async def test_a_stream_leads_to_its_destination_and_back() -> None:
    async with running_relay() as relay, tunnel_to(relay) as tunnel:
        stream = await tunnel.open(THERE)
        await write_all(stream, b"question")
        far = await reached(relay)
        assert relay.asked == [THERE]
        assert await far.receive(8) == b"question"
        await far.send(b"answer")
        await far.end()
        assert await read_all(stream) == b"answer"


async def test_several_carriers_are_kept_up() -> None:
    async with running_relay() as relay, tunnel_to(relay) as tunnel:
        await until(lambda: up(tunnel) == CARRIERS)
        assert {carrier.kind for carrier in tunnel.carriers} == {"clear"}


async def test_they_do_not_come_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bonded, "GROW_AFTER", (60.0, 60.0))
    async with running_relay() as relay, tunnel_to(relay) as tunnel:
        stream = await tunnel.open(THERE)
        await write_all(stream, b"question")
        assert await (await reached(relay)).receive(8) == b"question"
        assert len(relay.accepted) == 1


class Hopeless(ClearCarrier):
    """A way that nobody can go."""

    async def connect(self, *_: object) -> CarrierPipe:
        raise DialError("no other tunnel is up", stage="dispatch")


async def test_one_that_cannot_be_dialed_keeps_no_other_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bonded, "GROW_AFTER", (0.45, 0.45))  # a dozen of these are too many
    hopeless = [Hopeless(f"hopeless {number}") for number in range(3)]
    async with running_relay() as relay, tunnel_to(relay, ClearCarrier(), *hopeless) as tunnel:
        await until(lambda: up(tunnel) >= 2)


async def test_a_broken_carrier_is_replaced_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_relay() as relay, tunnel_to(relay) as tunnel:
        await until(lambda: up(tunnel) == CARRIERS)
        monkeypatch.setattr(bonded, "GROW_AFTER", (60.0, 60.0))
        relay.accepted[0].abort()
        await until(lambda: len(relay.accepted) > CARRIERS and up(tunnel) == CARRIERS)


async def test_streams_go_on_when_every_carrier_broke() -> None:
    async with running_relay() as relay, tunnel_to(relay) as tunnel:
        stream = await tunnel.open(THERE)
        await write_all(stream, b"x")
        far = await reached(relay)
        assert await far.receive(1) == b"x"
        data = os.urandom(1 << 20)
        sending = asyncio.create_task(far.send(data))
        got = await read_once(stream)
        relay.cut_all()
        got += await read_exactly(stream, len(data) - len(got))
        await sending
        assert got == data


async def test_while_the_network_is_gone_dials_go_on() -> None:
    async with running_relay() as relay, tunnel_to(relay) as tunnel:
        stream = await tunnel.open(THERE)
        await write_all(stream, b"x")
        far = await reached(relay)
        relay.is_open = False
        relay.cut_all()
        await until(lambda: not up(tunnel))
        await far.send(b"meanwhile")
        await asyncio.sleep(0.4)
        relay.is_open = True
        started = asyncio.get_running_loop().time()
        assert await read_exactly(stream, 9) == b"meanwhile"
        print(f"resumed after {asyncio.get_running_loop().time() - started:.3f} s")


@pytest.mark.parametrize("arena", [1 << 20, 8 << 20])
async def test_others_cannot_take_the_memory_of_what_was_granted(arena: int) -> None:
    memory = Memory(8 << 20, arena, poison=True)
    others = memory.account("others")
    async with running_relay() as relay, tunnel_to(relay, memory=memory) as tunnel:
        stream = await tunnel.open(THERE)
        await write_all(stream, b"x")
        far = await reached(relay)
        taken = list(iter(lambda: others.try_hold(PAGE), None))
        data = os.urandom(1 << 20)
        sending = asyncio.create_task(far.send(data))
        await asyncio.sleep(0.2)  # nobody reads: what was granted must be kept
        assert await read_exactly(stream, len(data)) == data
        await sending
        for lease in taken:
            lease.release()


async def test_a_destination_that_refuses_is_an_error_of_the_stream_only() -> None:
    async with running_relay() as relay, tunnel_to(relay) as tunnel:
        stream = await tunnel.open(NOWHERE)
        await write_all(stream, b"question")
        with pytest.raises(DestinationError) as caught:
            await read_once(stream)
        assert caught.value.reason is Reason.REFUSED


async def test_a_stranger_is_told_no() -> None:
    async with running_relay() as relay:
        with pytest.raises(HandshakeError, match="does not accept this invite"):
            async with tunnel_to(relay, credential=b"stranger"):
                pass
        assert not relay.host.sessions


async def test_a_relay_without_room_says_so_at_once() -> None:
    async with running_relay() as relay:
        relay.host.may_begin = lambda _: False
        async with asyncio.timeout(SECONDS):
            with pytest.raises(RefusedError, match="no room for another session"):
                async with tunnel_to(relay):
                    pass


async def test_a_relay_that_forgot_the_session_gets_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("circumvent.session.host.KEPT_SECONDS", 0.05)
    async with running_relay() as relay, tunnel_to(relay) as tunnel:
        stream = await tunnel.open(THERE)
        await write_all(stream, b"x")
        await reached(relay)
        relay.is_open = False
        relay.cut_all()
        await until(lambda: not relay.host.sessions)
        opening = asyncio.create_task(tunnel.open(THERE))
        await asyncio.sleep(0.05)
        assert not opening.done()
        relay.is_open = True
        with pytest.raises(StreamResetError):
            await read_once(stream)
        async with asyncio.timeout(SECONDS):
            await write_all(await opening, b"again")
        assert await (await reached(relay, 2)).receive(5) == b"again"


async def test_a_session_without_carriers_is_kept_and_then_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("circumvent.session.host.KEPT_SECONDS", 0.1)
    async with running_relay() as relay, tunnel_to(relay):
        (hosted,) = relay.host.sessions.values()
        for link in tuple(hosted.session.carriers.values()):
            link.cut()
        relay.is_open = False
        await until(lambda: not relay.host.sessions)


class Censor:
    """A TLS engine that counts handshakes; while it blocks, each of them ends in a reset."""

    def __init__(self) -> None:
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


class Greeting(ClearCarrier):
    """A carrier that greets before it says anything."""

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> CarrierPipe:
        link = await super().connect(entry, dialer, account)
        await TlsLayer(TlsOptions("relay.test")).start(link.stream)
        return link


class TestGreetings:
    """A censor counts them, so those in vain are few; whoever lives is not spared."""

    @pytest.fixture(autouse=True)
    def quicker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        *short, minute = rests.RESTS
        monkeypatch.setattr(rests, "RESTS", [*(seconds / 100 for seconds in short), minute])
        monkeypatch.setattr(rests, "EARLY_AFTER", 0.02)
        monkeypatch.setattr(bonded, "REDIAL", (0.001, 0.01))
        monkeypatch.setattr(bonded, "LIVED_AFTER", 0.01)

    @asynccontextmanager
    async def greeted(
        self, relay: Relay, censor: Censor, *kinds: str
    ) -> AsyncIterator[tuple[BondedTunnel, RouteHistory]]:
        past, dialer = RouteHistory(), NetDialer(censor)
        ways = [CarrierRoute(Greeting(kind), dialer) for kind in kinds or ("tls",)]
        account = Memory(8 << 20, poison=True).account("tunnel")
        entry = ServerEntry("relay", "127.0.0.1", relay.port, "", "relay://x", None)
        tunnel = BondedTunnel(
            entry, CarrierRoutes(ways, past, "it"), account, lambda binding: CREDENTIAL + binding
        )
        try:
            await tunnel.start()
            await until(lambda: up(tunnel) == CARRIERS)
            await asyncio.sleep(0.02)
            yield tunnel, past
        finally:
            await tunnel.aclose()

    @pytest.mark.parametrize("kinds", [("tls",), ("tls", "websocket", "fronted")])
    async def test_a_relay_that_is_blocked_is_greeted_six_times_in_the_first_minute(
        self, kinds: tuple[str, ...]
    ) -> None:
        censor = Censor()
        async with running_relay() as relay, self.greeted(relay, censor, *kinds) as (_, past):
            censor.is_blocking, censor.handshakes = True, 0
            relay.cut_all()
            await until(lambda: censor.handshakes >= 5)
            await asyncio.sleep(0.1)
            assert censor.handshakes <= 6
            # A new tunnel to the same relay knows what the old one did.
            roster = CarrierRoutes([CarrierRoute(Greeting("tls"), NetDialer(censor))], past, "it")
            assert roster.may_begin_at() > asyncio.get_running_loop().time()

    async def test_it_is_back_at_once_when_the_network_changed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        censor = Censor()
        async with running_relay() as relay, self.greeted(relay, censor) as (tunnel, _):
            monkeypatch.setattr(rests, "RESTS", (60.0,))
            censor.is_blocking, censor.handshakes = True, 0
            relay.cut_all()
            await until(lambda: censor.handshakes)
            censor.is_blocking = False
            tunnel.revalidate()
            await until(lambda: up(tunnel))

    async def test_it_is_back_soon_when_somebody_waits_for_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        censor = Censor()
        async with running_relay() as relay, self.greeted(relay, censor) as (tunnel, past):
            monkeypatch.setattr(rests, "RESTS", (60.0,))
            censor.is_blocking, censor.handshakes = True, 0
            relay.cut_all()
            await until(lambda: censor.handshakes)
            censor.is_blocking = False
            past.backoff.ask(time.monotonic())
            await until(lambda: up(tunnel))

    async def test_carriers_that_lived_are_replaced_at_once_again_and_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        censor = Censor()
        async with running_relay() as relay, self.greeted(relay, censor) as (tunnel, _):
            monkeypatch.setattr(rests, "RESTS", (0.001, 0.001, 0.001, 60.0))
            for _ in range(5):
                relay.cut_all()
                await until(lambda: len(relay.accepted) >= CARRIERS and up(tunnel) == CARRIERS)
                await asyncio.sleep(0.02)


class TestHello:
    """Only who knows the session's secret, on the channel that it was proven for."""

    NAME, SECRET = bytes(16), bytes(range(32))

    async def say(self, relay: Relay, hello: Create | Attach) -> None:
        account = relay.memory.account("client")
        entry = ServerEntry("relay", "127.0.0.1", relay.port, "", "relay://x", None)
        pipe = await ClearCarrier().connect(entry, NetDialer(TlsClient()), account)
        if isinstance(hello, Create):
            hello = replace(hello, credential=CREDENTIAL + pipe.binding)
        try:
            await send_hello(pipe.stream, account, hello)
        finally:
            pipe.stream.abort()

    @pytest.mark.parametrize("number", [1, 2])
    async def test_a_proof_is_good_on_its_own_channel_only(self, number: int) -> None:
        async with running_relay() as relay:
            await self.say(relay, Create(1, self.NAME, self.SECRET, b""))
            proof = attach_proof(self.SECRET, self.NAME, number, b"another channel")
            with pytest.raises(RefusedError) as caught:
                await self.say(relay, Attach(number, self.NAME, proof))
            assert caught.value.reason is CloseReason.UNKNOWN_SESSION

    async def test_a_session_cannot_be_taken_over_by_creating_it_again(self) -> None:
        async with running_relay() as relay:
            await self.say(relay, Create(1, self.NAME, self.SECRET, b""))
            with pytest.raises(RefusedError) as caught:
                await self.say(relay, Create(2, self.NAME, bytes(32), b""))
            assert caught.value.reason is CloseReason.REFUSED

    async def test_a_number_is_good_once(self) -> None:
        async with running_relay() as relay:
            await self.say(relay, Create(1, self.NAME, self.SECRET, b""))
            with pytest.raises(RefusedError):
                await self.say(relay, Create(1, self.NAME, self.SECRET, b""))


class TestRoster:
    """The next carrier is as unlike the others as possible."""

    def ways(self) -> list[CarrierRoute]:
        dialer = object()
        return [
            CarrierRoute(carrier, dialer, network)  # type: ignore[arg-type]
            for network in ("IPv4", "IPv6")
            for carrier in (TLS, WEBSOCKET)
        ]

    def test_first_another_network_and_kind_then_the_rest(self) -> None:
        roster = CarrierRoutes(self.ways())
        used: list[CarrierRoute] = []
        for _ in range(4):
            way = roster.choose(used, 0.0)
            assert way is not None
            used.append(way)
        assert [way.name for way in used[:2]] == ["tls IPv4", "websocket IPv6"]
        assert len(set(used)) == 4

    def test_who_failed_rests_and_others_are_tried(self) -> None:
        ways = self.ways()
        roster = CarrierRoutes(ways)
        roster.failed(ways[0], 10.0)
        assert roster.choose([], 10.3) is ways[1]
        assert roster.choose([], 10.5) is ways[0]

    def test_while_none_is_up_who_was_never_greeted_does_not_rest(self) -> None:
        ways = self.ways()[:1]
        roster = CarrierRoutes(ways)
        for _ in range(9):
            roster.failed(ways[0], 10.0)
        assert roster.choose([], 20.0) is None
        assert roster.choose_alone([], 20.0) is ways[0]

    def test_while_none_is_up_every_way_gets_its_turn(self) -> None:
        ways = self.ways()
        roster = CarrierRoutes(ways)
        tried = []
        for now in range(10, 14):
            way = roster.choose_alone([], now)
            assert way is not None
            tried.append(way)
            roster.failed(way, now)
        assert tried == ways
        assert roster.choose_alone([], 14.0) is ways[0]

    def test_tunnels_of_others_are_begun_with_only_when_all_else_failed_or_hangs(self) -> None:
        direct, hanging = self.ways()[:2]
        indirect = replace(direct, network="through tunnels", is_indirect=True)
        roster = CarrierRoutes([direct, hanging, indirect])
        assert roster.choose_alone([], 10.0) is direct
        roster.failed(direct, 10.0)
        assert roster.choose_alone([], 10.1) is hanging
        assert roster.choose_alone([hanging], 10.1) is indirect

    async def test_ways_that_greet_by_one_name_share_its_count(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rests, "RESTS", (0.01, 60.0))
        direct, other, elsewhere = self.ways()[:3]
        roster = CarrierRoutes([direct, other, elsewhere])
        await roster.greet(direct, "one name")
        await roster.greet(other, "one name")  # waits for its turn
        now = time.monotonic()
        assert roster.choose_alone([], now + 1) is elsewhere
        with pytest.raises(DialError):
            await roster.greet(direct, "one name")
        await roster.greet(elsewhere, "another name")
        roster.lived(other)
        assert roster.choose_alone([], now + 1) is other


TLS, WEBSOCKET = ClearCarrier("tls"), ClearCarrier("websocket")
