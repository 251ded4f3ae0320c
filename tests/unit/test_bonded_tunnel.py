"""A bonded tunnel keeps several carriers up; its streams notice nothing of what happens to them."""

from __future__ import annotations

import asyncio
import os

import pytest

from circumvent.api import (
    CarrierPipe,
    DestinationError,
    DialError,
    HandshakeError,
    Reason,
    ServerEntry,
    StreamResetError,
)
from circumvent.memory import PAGE, Memory
from circumvent.session.handshake import RefusedError, send_hello
from circumvent.testing.steps import read_all, read_exactly, read_once, write_all
from circumvent.tunnels.bonded import BondedTunnel
from circumvent.tunnels.carrier_plan import CARRIERS
from circumvent.tunnels.timings import CarrierTimings
from circumvent.wire.address import Destination
from circumvent.wire.hello import ID_SIZE, SECRET_SIZE, Create
from tests.bonding.relays import CREDENTIAL, ClearCarrier, Relay, running_relay, tunnel_to
from tests.virtual.loop import LONG, until
from tests.virtual.network import MemoryDialer
from tests.virtual.stream import End

THERE = Destination("example.com", 80)
NOWHERE = Destination("example.com", 1)
pytestmark = pytest.mark.virtual_time


def up(tunnel: BondedTunnel) -> int:
    return sum(carrier.state == "up" for carrier in tunnel.carriers)


async def reached(relay: Relay, count: int = 1) -> End:
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
        far.end()
        assert await read_all(stream) == b"answer"


async def test_several_carriers_are_kept_up() -> None:
    async with running_relay() as relay, tunnel_to(relay) as tunnel:
        await until(lambda: up(tunnel) == CARRIERS)
        assert {carrier.kind for carrier in tunnel.carriers} == {"clear"}


async def test_they_do_not_come_all_at_once() -> None:
    async with running_relay() as relay, tunnel_to(relay) as tunnel:
        stream = await tunnel.open(THERE)
        await write_all(stream, b"question")
        assert await (await reached(relay)).receive(8) == b"question"
        assert len(relay.accepted) == 1


class Hopeless(ClearCarrier):
    """A carrier that cannot be dialed."""

    async def connect(self, *_: object) -> CarrierPipe:
        raise DialError("no other tunnel is up", stage="dispatch")


async def test_one_that_cannot_be_dialed_keeps_no_other_waiting() -> None:
    hopeless = [Hopeless(f"hopeless {number}") for number in range(3)]
    carriers = (ClearCarrier(), *hopeless)
    async with running_relay() as relay, tunnel_to(relay, *carriers) as tunnel:
        most = CarrierTimings().grow_after[1]
        assert await until(lambda: up(tunnel) >= 2) < 2 * most


async def test_a_broken_carrier_is_replaced_at_once() -> None:
    async with running_relay() as relay, tunnel_to(relay) as tunnel:
        await until(lambda: up(tunnel) == CARRIERS)
        relay.accepted[0].abort()
        seconds = await until(lambda: len(relay.accepted) > CARRIERS and up(tunnel) == CARRIERS)
        assert seconds < CarrierTimings().grow_after[0]


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
        await asyncio.sleep(20.0)
        relay.is_open = True
        started = asyncio.get_running_loop().time()
        assert await read_exactly(stream, 9) == b"meanwhile"
        assert asyncio.get_running_loop().time() - started < 2.0  # the longest pause, and a bit


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


async def test_a_session_is_joined_only_with_its_secret() -> None:
    account = Memory(8 << 20).account("client")
    name, secret = os.urandom(ID_SIZE), os.urandom(SECRET_SIZE)
    async with running_relay() as relay:

        async def create(number: int, secret: bytes) -> None:
            entry = ServerEntry("relay", "127.0.0.1", relay.port, "", "relay://x", None)
            dialer = MemoryDialer().for_plugins
            pipe = await ClearCarrier().connect(entry, dialer, account)
            hello = Create(number, name, secret, CREDENTIAL + pipe.binding)
            await send_hello(pipe.stream, account, hello)

        await create(1, secret)
        await create(2, secret)
        with pytest.raises(RefusedError):
            await create(3, os.urandom(SECRET_SIZE))
        (hosted,) = relay.host.sessions.values()
        assert set(hosted.session.carriers) == {1, 2}


async def test_a_relay_without_room_says_so_at_once() -> None:
    async with running_relay() as relay:
        relay.host.may_begin = lambda _: False
        async with asyncio.timeout(LONG):
            with pytest.raises(RefusedError, match="no room for another session"):
                async with tunnel_to(relay):
                    pass


async def test_a_relay_that_forgot_the_session_gets_a_new_one() -> None:
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
        async with asyncio.timeout(LONG):
            await write_all(await opening, b"again")
        assert await (await reached(relay, 2)).receive(5) == b"again"


async def test_a_session_without_carriers_is_kept_and_then_forgotten() -> None:
    async with running_relay() as relay, tunnel_to(relay):
        (hosted,) = relay.host.sessions.values()
        for link in tuple(hosted.session.carriers.values()):
            link.cut()
        relay.is_open = False
        await until(lambda: not relay.host.sessions)
