"""What a client and its destination send arrives, whoever is first and whoever ends."""

import asyncio
import hashlib
import random
from pathlib import Path

import pytest

from circumvent.tunnels.live import TunnelState
from circumvent.tunnels.timings import StreamTimings
from circumvent.wire.address import Destination
from tests.unit.far_side import (
    FarStream,
    all_of,
    candidate,
    echo,
    nodes,
)
from tests.unit.running_client import running_client
from tests.unit.test_client_hello import HELLO
from tests.unit.test_failover import POST, SITE

pytestmark = pytest.mark.virtual_time


BIG = random.Random(1).randbytes(3 << 20)


async def greet(stream: FarStream) -> None:
    await stream.send(b"220 welcome\r\n")
    await echo(stream)


async def end_then_listen(stream: FarStream) -> None:
    await stream.send(b"that is all")
    stream.end()
    while await stream.receive():
        pass


async def digest(stream: FarStream) -> None:
    """At the end of the input, its digest."""
    while await stream.receive():
        pass
    await stream.send(hashlib.sha256(stream.received).digest())


async def send_big(stream: FarStream) -> None:
    """Send much while much comes."""
    sending = asyncio.ensure_future(stream.send(BIG))
    await stream.receive(len(BIG))
    await sending
    await stream.send(hashlib.sha256(stream.received).digest())


async def test_the_server_may_speak_first(tmp_path: Path) -> None:
    async with nodes(1, {SITE: greet}) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(1)
        browser = await client.browse(SITE, 25)
        assert await browser.receive_exactly(13) == b"220 welcome\r\n"
        await browser.send(HELLO)
        assert await browser.receive_exactly(len(HELLO)) == HELLO


async def test_it_may_do_so_where_clients_are_first_if_this_one_stays_silent(
    tmp_path: Path,
) -> None:
    async with nodes(1, {SITE: greet}) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(1)
        browser = await client.browse(SITE, 443)
        assert await browser.receive_exactly(13) == b"220 welcome\r\n"


@pytest.mark.parametrize("words", [HELLO, POST])
async def test_a_slow_clients_words_come_in_one_packet_with_their_header(
    words: bytes, tmp_path: Path
) -> None:
    async with (
        nodes(1, {SITE: echo}) as (node,),
        running_client(all_of([node]), tmp_path) as client,
    ):
        await client.up(1)
        browser = await client.browse(SITE)
        await asyncio.sleep(0.5)
        await browser.send(words)
        assert await browser.receive_exactly(len(words)) == words
        assert node.streams_to(SITE)[0].first == Destination(SITE, 443).encode() + words


async def test_a_client_may_say_that_it_is_done_and_listen_on(tmp_path: Path) -> None:
    async with nodes(1, {SITE: digest}) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(1)
        browser = await client.browse(SITE)
        await browser.send(b"all of it")
        browser.end()
        assert await browser.receive_all() == hashlib.sha256(b"all of it").digest()
        await browser.served
        await client.free()


async def test_a_client_may_be_done_before_it_said_anything(tmp_path: Path) -> None:
    async with nodes(1, {SITE: digest}) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(1)
        browser = await client.browse(SITE)
        browser.end()
        assert await browser.receive_all() == hashlib.sha256(b"").digest()


async def test_a_server_may_say_that_it_is_done_and_listen_on(tmp_path: Path) -> None:
    async with nodes(1, {SITE: end_then_listen}) as (node,):
        servers = [candidate(node)]
        async with running_client(servers, tmp_path) as client:
            (tunnel,) = await client.up(1)
            browser = await client.browse(SITE, 25)  # where servers speak first
            assert await browser.receive_all() == b"that is all"
            await browser.send(b"last words")
            await asyncio.sleep(2 * StreamTimings().patience)
            assert tunnel.state is TunnelState.UP
            assert not [probe for probe in client.attempts() if probe.what == "probe"]
            await browser.stream.aclose()
            await browser.served
            assert node.streams_to(SITE)[0].received == b"last words"


async def test_much_goes_both_ways_at_once(tmp_path: Path) -> None:
    async with nodes(1, {SITE: send_big}) as made, running_client(all_of(made), tmp_path) as client:
        (tunnel,) = await client.up(1)
        browser = await client.browse(SITE)
        saying = asyncio.ensure_future(browser.send(BIG))
        heard = await browser.receive_exactly(len(BIG) + 32)
        await saying
        assert heard == BIG + hashlib.sha256(BIG).digest()
        assert (tunnel.bytes_up, tunnel.bytes_down) == (len(BIG), len(BIG) + 32)
        assert tunnel.proven


async def test_a_server_that_breaks_in_the_middle_is_a_reset(tmp_path: Path) -> None:
    async def break_off(stream: FarStream) -> None:
        await stream.receive()
        await stream.send(b"half of")
        await asyncio.sleep(0.5)
        stream.reset()

    async with (
        nodes(1, {SITE: break_off}) as made,
        running_client(all_of(made), tmp_path) as client,
    ):
        await client.up(1)
        browser = await client.browse(SITE)
        await browser.send(POST)
        assert await browser.receive_exactly(7) == b"half of"
        with pytest.raises(ConnectionResetError):
            await browser.receive_all()
