"""Clients that are no sockets: the inbound and the dispatcher need a replayable stream only."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from circumvent.api.streams import ByteStream, ReplayableStream
from circumvent.errors import ProtocolError, StreamResetError
from circumvent.inbound.connection import ClientConnection, InboundContext
from circumvent.inbound.options import InboundOptions
from circumvent.inbound.presence import AssumedPresence
from circumvent.inbound.socks import serve_socks5
from circumvent.memory import Memory
from circumvent.net.replay import ReplayStream
from circumvent.testing.steps import read_all, read_exactly, write_all
from circumvent.wire import socks5
from circumvent.wire.address import Destination
from tests.unit import inbound_client
from tests.unit.far_side import House, Talk, Visit, all_of, answer, echo, house, hurry, nodes
from tests.unit.memory_stream import MemoryStream, memory_pair
from tests.unit.test_client_hello import HELLO

SITE = "site.test"
REPLY = b"\x16\x03\x03 server hello"
POST = b"POST /buy HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\none"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def reset(visit: Visit) -> None:
    await visit.hear(16)
    visit.reset()


@asynccontextmanager
async def carried(home: House, words: bytes) -> AsyncIterator[MemoryStream]:
    """The far end of a client that the dispatcher carries, once it has sent ``words``."""
    near, far = memory_pair()
    client = ReplayStream(near, home.memory.account("client"))
    accepted = asyncio.Event()

    async def accept() -> None:
        accepted.set()

    await write_all(far, words)
    carrying = asyncio.ensure_future(home.dispatcher.carry(client, Destination(SITE, 443), accept))
    try:
        yield far
        await carrying
        assert accepted.is_set()
    finally:
        carrying.cancel()
        client.abort()
        await home.free()


class TestDispatcher:
    async def test_bytes_go_both_ways_to_the_end(self, tmp_path: Path) -> None:
        async with nodes(1, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            await home.up(1)
            async with carried(home, POST) as client:
                assert await read_exactly(client, len(POST)) == POST
                await write_all(client, b"more")
                client.write_eof()
                assert await read_all(client) == b"more"

    async def test_a_client_hello_is_sent_again_through_a_second_tunnel(
        self, tmp_path: Path
    ) -> None:
        heard = await self.flights(HELLO, tmp_path, REPLY)
        assert heard == [HELLO, HELLO]

    async def test_nothing_else_is_sent_twice(self, tmp_path: Path) -> None:
        assert await self.flights(POST, tmp_path, None) == [POST]

    async def flights(self, words: bytes, tmp_path: Path, reply: bytes | None) -> list[bytes]:
        """What two servers received of ``words``, the first of which breaks the connection."""
        talks: tuple[Talk, Talk] = (reset, answer(REPLY))
        async with nodes(2) as made, house(all_of(made), tmp_path) as home:
            for node, talk in zip(made, talks, strict=True):
                node.talks[SITE] = talk
            await home.up(2)
            home.through(made[0]).rtt, home.through(made[1]).rtt = 0.001, 0.1
            async with carried(home, words) as client:
                if reply is None:
                    with pytest.raises(StreamResetError):
                        await read_all(client)
                else:
                    assert await read_exactly(client, len(reply)) == reply
                    client.write_eof()
                    assert await read_all(client) == b""
            return [visit.heard for node in made for visit in node.visits_to(SITE)]


class Recorder:
    """An outbound that greets each client it is given, and reads what it says."""

    def __init__(self) -> None:
        self.carried: list[tuple[Destination, bytes]] = []

    async def carry(
        self,
        client: ReplayableStream,
        destination: Destination,
        accept: Callable[[], Awaitable[None]],
    ) -> None:
        await accept()
        self.carried.append((destination, await read_all(client)))

    async def open(self, destination: Destination) -> ByteStream:
        raise NotImplementedError


class TestInbound:
    @asynccontextmanager
    async def connection(
        self, outbound: Recorder
    ) -> AsyncIterator[tuple[ClientConnection, MemoryStream]]:
        memory = Memory(4 << 20, poison=True)
        account = memory.account("inbound")
        near, far = memory_pair()
        scratch = memoryview(bytearray(InboundOptions().max_head))
        context = InboundContext(outbound, account, InboundOptions(), scratch)
        stream = ReplayStream(near, account)
        yield ClientConnection(stream, AssumedPresence(), context), far
        stream.abort()
        assert memory.leased == 0

    async def test_a_socks5_handshake_in_single_bytes_leads_to_the_outbound(self) -> None:
        outbound = Recorder()
        words = inbound_client.GREETING + inbound_client.socks5(SITE, 80) + b"hello"
        async with self.connection(outbound) as (connection, far):

            async def serve() -> None:
                greeting = await connection.read_message(socks5.parse_greeting, socks5.MAX_MESSAGE)
                await serve_socks5(connection, greeting)

            serving = asyncio.ensure_future(serve())
            for byte in words:
                await write_all(far, bytes((byte,)))
                await asyncio.sleep(0)
            far.write_eof()
            await serving
            assert outbound.carried == [(Destination(SITE, 80), b"hello")]
            succeeded = socks5.REPLIES[socks5.Reply.SUCCEEDED]
            assert await read_exactly(far, 12) == b"\x05\x00" + succeeded

    async def test_a_client_that_leaves_in_its_greeting_is_a_protocol_error(self) -> None:
        async with self.connection(Recorder()) as (connection, far):
            await write_all(far, inbound_client.GREETING[:2])
            far.write_eof()
            with pytest.raises(ProtocolError, match="left in the middle"):
                await connection.read_message(socks5.parse_greeting, socks5.MAX_MESSAGE)

    async def test_a_client_whose_kernel_nobody_can_ask_counts_as_present(self) -> None:
        async with self.connection(Recorder()) as (connection, far):
            far.write_eof()
            assert not connection.has_left(1e9)
            assert connection.idle_seconds() == 0
