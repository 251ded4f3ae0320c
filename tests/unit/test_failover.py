"""A tunnel that fails in time is replaced unseen, and nothing is sent twice but one ClientHello."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from circumvent.api import Dialer, ServerEntry, Tunnel
from circumvent.api.layer import LayerStream
from circumvent.api.streams import ByteStream
from circumvent.errors import (
    StreamResetError,
)
from circumvent.memory import Account
from circumvent.tunnels.live import TunnelState
from circumvent.wire.address import Destination
from tests.unit.far_side import (
    FarStream,
    FarTransport,
    Handler,
    Node,
    all_of,
    answer,
    candidate,
    echo,
    never_answer,
    nodes,
)
from tests.unit.running_client import Browser, RunningClient, running_client
from tests.unit.test_client_hello import HELLO, make_body, make_extension, make_message, make_record
from tests.virtual.loop import until

pytestmark = pytest.mark.virtual_time


SITE = "site.test"
REPLY = b"\x16\x03\x03 server hello"
POST = b"POST /buy HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\none"
EARLY = make_record(make_message(make_body(make_extension(42))))


async def reset(stream: FarStream) -> None:
    """Break the connection when something came."""
    await stream.receive(16)
    stream.reset()


async def close(stream: FarStream) -> None:
    """Say nothing and close when something came."""
    await stream.receive(16)


async def ask_frozen_session(client: RunningClient, node: Node, data: bytes) -> Browser:
    """Send through a tunnel that is silent, and may come back."""
    client.prefer(node)
    node.freeze()
    browser = await client.browse(SITE)
    await browser.send(data)
    await until(lambda: bool(client.through(node).streams))
    client.through(node).tunnel.resumes = True
    return browser


async def test_a_dead_servers_refusal_is_not_seen(tmp_path: Path) -> None:
    async with nodes(2, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(2)
        client.prefer(made[0])
        await made[0].kill()
        browser = await client.browse(SITE)
        await browser.send(POST)
        assert await browser.receive_exactly(len(POST)) == POST
        assert browser.accepted == 1
        await until(lambda: len(client.manager.tunnels) == 1)
        failed = client.failures()
        stream = next(attempt for attempt in failed if attempt.what == "stream")
        assert (stream.stage, stream.errno_name) == ("tcp", "ECONNREFUSED")
        assert SITE not in str(failed)


@pytest.mark.parametrize("fails", [reset, close])
async def test_a_client_hello_moves_to_a_second_tunnel(fails: Handler, tmp_path: Path) -> None:
    async with nodes(2) as (bad, good):
        bad.handlers[SITE], good.handlers[SITE] = fails, answer(REPLY)
        async with running_client(all_of([bad, good]), tmp_path) as client:
            await client.up(2)
            client.prefer(bad)
            browser = await client.browse(SITE)
            await browser.send(HELLO)
            assert await browser.receive_exactly(len(REPLY)) == REPLY
            assert browser.accepted == 1
        assert bad.streams_to(SITE)[0].received == HELLO
        assert [stream.received for stream in good.streams_to(SITE)] == [HELLO]


async def test_a_hello_does_not_wait_for_a_tunnel_that_may_come_back(tmp_path: Path) -> None:
    async with (
        nodes(2, {SITE: answer(REPLY)}) as made,
        running_client(all_of(made), tmp_path) as client,
    ):
        await client.up(2)
        browser = await ask_frozen_session(client, made[0], HELLO)
        assert await browser.receive_exactly(len(REPLY)) == REPLY
        assert client.through(made[0]) in client.manager.tunnels


async def test_what_may_be_sent_once_only_is_cut_after_a_while(tmp_path: Path) -> None:
    async with (
        nodes(2, {SITE: answer(REPLY)}) as made,
        running_client(all_of(made), tmp_path) as client,
    ):
        await client.up(2)
        browser = await ask_frozen_session(client, made[0], POST)
        with pytest.raises(ConnectionResetError):
            await browser.receive_all()
        assert client.through(made[0]) in client.manager.tunnels
        assert not made[1].streams_to(SITE)


async def test_after_the_answer_what_follows_goes_the_same_way_once(tmp_path: Path) -> None:
    async with nodes(1, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(1)
        browser = await client.browse(SITE)
        await browser.send(HELLO)
        assert await browser.receive_exactly(len(HELLO)) == HELLO
        for word in (b"a", b"finished", b"x" * 5000):
            await browser.send(word)
            assert await browser.receive_exactly(len(word)) == word
        assert made[0].streams_to(SITE)[0].received == HELLO + b"afinished" + b"x" * 5000


async def test_what_a_client_sends_before_the_answer_arrives(tmp_path: Path) -> None:
    more = b"more"
    async with nodes(1) as (node,):

        async def patient(stream: FarStream) -> None:
            await stream.receive(len(HELLO) + len(more))
            await stream.send(REPLY)

        node.handlers[SITE] = patient
        async with running_client([candidate(node)], tmp_path) as client:
            await client.up(1)
            browser = await client.browse(SITE)
            await browser.send(HELLO)
            await until(lambda: bool(node.streams_to(SITE)))
            await browser.send(more)
            assert await browser.receive_exactly(len(REPLY)) == REPLY
        assert node.streams_to(SITE)[0].received == HELLO + more


@pytest.mark.parametrize("flight", [POST, EARLY, HELLO + b"x", HELLO[:-1], b"\x16" * 40], ids=len)
async def test_nothing_else_is_ever_sent_twice(flight: bytes, tmp_path: Path) -> None:
    async with nodes(2, {SITE: reset}) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(2)
        browser = await client.browse(SITE)
        await browser.send(flight)
        with pytest.raises(ConnectionResetError):
            await browser.receive_all()
        await browser.served
        streams = [stream for node in made for stream in node.streams_to(SITE)]
        assert [stream.received for stream in streams] == [flight]
        await client.free()


async def test_a_hello_that_nobody_answers_is_reset_in_the_end(tmp_path: Path) -> None:
    async with nodes(3, {SITE: close}) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(3)
        browser = await client.browse(SITE)
        await browser.send(HELLO)
        with pytest.raises(ConnectionResetError):
            await browser.receive_all()
        assert [node.streams_to(SITE)[0].received for node in made] == [HELLO] * 3
        await client.free()


async def test_a_tunnel_that_answers_probes_but_not_its_users_is_not_the_first_choice(
    tmp_path: Path,
) -> None:
    async with nodes(2) as (bad, good):
        bad.handlers[SITE], good.handlers[SITE] = reset, answer(REPLY)
        async with running_client(all_of([bad, good]), tmp_path) as client:
            await client.up(2)
            client.prefer(bad)
            answers = []
            for _ in range(8):
                browser = await client.browse(SITE)
                await browser.send(POST)
                with contextlib.suppress(ConnectionResetError):
                    answers.append(await browser.receive_exactly(len(REPLY)))
                browser.reset()
                await browser.served
                client.prefer(bad)  # what its probe took would change it
            assert answers.count(REPLY) >= 3
            assert len(client.manager.tunnels) == 2


async def test_the_third_stream_that_ends_without_an_answer_raises_a_doubt(tmp_path: Path) -> None:
    async with (
        nodes(1, {SITE: close}) as (node,),
        running_client([candidate(node)], tmp_path) as client,
    ):
        (tunnel,) = await client.up(1)
        for number in range(3):
            assert tunnel.state is TunnelState.UP, number
            node.answer_probes(never_answer)
            browser = await client.browse(SITE)
            await browser.send(POST)
            browser.end()
            await browser.receive_all()
            await browser.served
        assert tunnel.state is TunnelState.SUSPECTED


async def test_a_tunnel_that_breaks_before_anything_is_read_is_passed_over(tmp_path: Path) -> None:
    class Torn(LayerStream):
        def write(self, block: memoryview, start: int, end: int) -> int:
            raise StreamResetError(f"broke at {len(block)} {start} {end}", stage="write")

    async with nodes(2, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(2)
        client.prefer(made[0])
        tunnel = client.through(made[0]).tunnel
        right = tunnel.open

        async def open_torn(destination: Destination) -> ByteStream:
            return Torn(await right(destination))

        tunnel.open = open_torn  # type: ignore[method-assign]
        for data in (HELLO, b""):
            browser = await client.browse(SITE)
            await browser.send(data)
            await asyncio.sleep(0.5)
            await browser.send(b"and more")
            expected = data + b"and more"
            assert await browser.receive_exactly(len(expected)) == expected


async def test_a_plugin_with_a_bug_is_passed_over(tmp_path: Path) -> None:
    class Failing(FarTransport):
        async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
            tunnel = await super().connect(entry, dialer, account)
            right = tunnel.open

            async def open_or_raise(destination: Destination) -> ByteStream:
                if destination.host == SITE:
                    raise ValueError(SITE)
                return await right(destination)

            tunnel.open = open_or_raise  # type: ignore[method-assign]
            return tunnel

    async with nodes(2, {SITE: echo}) as made:
        servers = [candidate(made[0], Failing("failing")), candidate(made[1])]
        async with running_client(servers, tmp_path) as client:
            await client.up(2)
            client.prefer(made[0])
            browser = await client.browse(SITE)
            await browser.send(b"hello")
            assert await browser.receive_exactly(5) == b"hello"
            stream = client.failures(servers[0].id)[0]
            assert (stream.what, stream.stage) == ("stream", "plugin")
