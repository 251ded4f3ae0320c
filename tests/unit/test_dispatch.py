"""Each stream gets a tunnel, tells why it does not, and leaves nothing behind."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from circumvent.api import Dialer, ServerEntry, Tunnel
from circumvent.api.streams import ByteStream
from circumvent.errors import (
    DestinationError,
    DialError,
    NoTunnelError,
    Reason,
)
from circumvent.layers.exchange import receive, send
from circumvent.memory import Account
from circumvent.tunnels.live import TunnelState
from circumvent.wire.address import Destination
from tests.unit.far_side import (
    FarStream,
    FarTransport,
    Handler,
    Node,
    all_of,
    candidate,
    echo,
    never_answer,
    nodes,
)
from tests.unit.running_client import Browser, running_client
from tests.unit.test_client_hello import HELLO
from tests.unit.test_failover import POST, SITE
from tests.virtual.loop import until
from tests.virtual.stream import ROOM

pytestmark = pytest.mark.virtual_time


BIG = random.Random(1).randbytes(3 << 20)


class Replying(FarTransport):
    """Its tunnels tell whether the destination can be reached."""

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        tunnel = await super().connect(entry, dialer, account)
        tunnel.replies = True
        right = tunnel.open

        async def open_or_tell(destination: Destination) -> ByteStream:
            if destination.host == "refused.test":
                raise DestinationError(Reason.REFUSED)
            return await right(destination)

        tunnel.open = open_or_tell  # type: ignore[method-assign]
        return tunnel


async def test_a_tunnel_that_replies_tells_why_before_the_client_is_accepted(
    tmp_path: Path,
) -> None:
    async with nodes(1, {SITE: echo}) as (node,):
        servers = [candidate(node, Replying())]
        async with running_client(servers, tmp_path) as client:
            (tunnel,) = await client.up(1)
            refused = await client.browse("refused.test")
            with pytest.raises(DestinationError) as caught:
                await refused.served
            assert caught.value.reason is Reason.REFUSED
            assert not refused.accepted
            assert tunnel.state is TunnelState.UP
            await client.free()
            served = await client.browse(SITE)
            await served.send(b"hello")
            assert await served.receive_exactly(5) == b"hello"
            assert served.accepted == 1


async def test_a_client_that_leaves_while_it_is_accepted_costs_nothing(tmp_path: Path) -> None:
    async with nodes(1, {SITE: echo}) as (node,):
        servers = [candidate(node, Replying())]
        async with running_client(servers, tmp_path) as client:
            await client.up(1)
            browser = await client.browse(SITE)
            await until(lambda: bool(node.streams_to(SITE)) or bool(browser.accepted))
            browser.served.cancel()
            await client.free()


async def greet(stream: FarStream) -> None:
    await stream.send(b"220 welcome\r\n")
    await echo(stream)


async def send_nothing(browser: Browser) -> None:
    await browser.send(b"")


async def send_hello(browser: Browser) -> None:
    await browser.send(HELLO)


async def send_post(browser: Browser) -> None:
    await browser.send(POST)


async def send_big(browser: Browser) -> None:
    browser.offer(BIG)
    await asyncio.sleep(0.05)


async def test_what_a_client_sent_in_full_arrives_although_it_is_cut(tmp_path: Path) -> None:
    sent = BIG[: ROOM // 2]
    async with (
        nodes(1, {SITE: never_answer}) as (node,),
        running_client(all_of([node]), tmp_path) as client,
    ):
        (tunnel,) = await client.up(1)
        browser = await client.browse(SITE, 25)  # where the stream leads on before it sent anything
        await until(lambda: bool(node.streams_to(SITE)))
        node.freeze()
        before = tunnel.bytes_up
        await browser.send(sent)
        browser.end()
        await until(lambda: tunnel.bytes_up - before == len(sent))
        await asyncio.sleep(0.02)  # for the end behind it
        browser.served.cancel()
        await asyncio.wait([browser.served])
        node.thawed.set()
        await until(lambda: node.streams_to(SITE)[0].received == sent)


@pytest.mark.parametrize("handler", [never_answer, echo, greet])
@pytest.mark.parametrize("act", [send_nothing, send_hello, send_post, send_big])
@pytest.mark.parametrize("after", [0.0, 0.06])
async def test_a_client_that_vanishes_leaves_nothing_and_blames_no_tunnel(
    handler: Handler,
    act: Callable[[Browser], Awaitable[None]],
    after: float,
    tmp_path: Path,
) -> None:
    async with nodes(1, {SITE: handler}) as made, running_client(all_of(made), tmp_path) as client:
        (tunnel,) = await client.up(1)
        browser = await client.browse(SITE)
        await act(browser)
        await asyncio.sleep(after)
        browser.reset()
        await browser.served
        await client.free()
        assert tunnel.state is TunnelState.UP
        assert not client.failures()


@pytest.mark.parametrize("after", [0.0, 0.003, 0.01, 0.05])
async def test_an_inbound_that_closes_leaves_nothing(after: float, tmp_path: Path) -> None:
    async with nodes(1, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(1)
        browsers = [await client.browse(SITE) for _ in range(5)]
        for browser, data in zip(browsers, (HELLO, POST, b"", BIG, b"x"), strict=True):
            browser.offer(data)
        await asyncio.sleep(after)
        for browser in browsers:
            browser.served.cancel()
        await client.free()


async def test_it_gives_back_what_it_was_charged(tmp_path: Path) -> None:
    async with nodes(1, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
        (tunnel,) = await client.up(1)
        stream = await client.dispatcher.open(Destination(SITE, 80))
        assert client.memory.charged > tunnel.charged
        await send(stream, tunnel.account, b"hello")
        assert await receive(stream, tunnel.account) == b"hello"
        assert (tunnel.bytes_up, tunnel.bytes_down, len(tunnel.streams)) == (5, 5, 1)
        await stream.aclose()
        stream.abort()
        await client.free()
        assert not tunnel.streams


async def test_a_frozen_server_is_noticed_there_as_well(tmp_path: Path) -> None:
    async with (
        nodes(1, {SITE: echo}) as (node,),
        running_client([candidate(node)], tmp_path) as client,
    ):
        (tunnel,) = await client.up(1)
        stream = await client.dispatcher.open(Destination(SITE, 80))
        node.freeze()
        await send(stream, tunnel.account, b"hello")
        assert stream.read_into(memoryview(bytearray(9))) is None
        await until(lambda: tunnel.state is TunnelState.DEAD)
        stream.abort()


async def test_it_takes_the_next_tunnel_and_refuses_when_there_is_none(tmp_path: Path) -> None:
    async with nodes(2, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(2)
        await kill_all(made[:1])
        stream = await client.dispatcher.open(Destination(SITE, 80))
        await stream.aclose()
        await kill_all(made[1:])
        with pytest.raises(NoTunnelError):
            await client.dispatcher.open(Destination(SITE, 80))


async def test_after_three_tunnels_that_fail_a_stream_it_gives_up(tmp_path: Path) -> None:
    async with nodes(4) as made, running_client(all_of(made), tmp_path, wanted=4) as client:
        await client.up(4)
        await kill_all(made)
        with pytest.raises(DialError, match="3 tunnels failed"):
            await client.dispatcher.open(Destination(SITE, 80))


async def kill_all(made: Sequence[Node]) -> None:
    for node in made:
        await node.kill()
