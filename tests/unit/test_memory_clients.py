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
from tests.unit.far_side import FarStream, Handler, all_of, answer, echo, nodes
from tests.unit.running_client import RunningClient, running_client
from tests.unit.test_client_hello import HELLO
from tests.virtual.stream import MemoryStream, pair

SITE = "site.test"
REPLY = b"\x16\x03\x03 server hello"
POST = b"POST /buy HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\none"


async def reset(stream: FarStream) -> None:
    await stream.receive(16)
    stream.reset()


@asynccontextmanager
async def carried(running: RunningClient, data: bytes) -> AsyncIterator[MemoryStream]:
    """The far end of a client that the dispatcher carries, once it has sent ``data``."""
    near, far = pair()
    client = ReplayStream(near, running.memory.account("client"))
    accepted = asyncio.Event()

    async def accept() -> None:
        accepted.set()

    await write_all(far, data)
    carrying = asyncio.ensure_future(
        running.dispatcher.carry(client, Destination(SITE, 443), accept)
    )
    try:
        yield far
        await carrying
        assert accepted.is_set()
    finally:
        carrying.cancel()
        client.abort()
        await running.free()


class TestDispatcher:
    async def test_bytes_go_both_ways_to_the_end(self, tmp_path: Path) -> None:
        async with (
            nodes(1, {SITE: echo}) as made,
            running_client(all_of(made), tmp_path) as running,
        ):
            await running.up(1)
            async with carried(running, POST) as client:
                assert await read_exactly(client, len(POST)) == POST
                await write_all(client, b"more")
                client.write_eof()
                assert await read_all(client) == b"more"

    async def test_a_client_hello_is_sent_again_through_a_second_tunnel(
        self, tmp_path: Path
    ) -> None:
        received = await self.flights(HELLO, tmp_path, REPLY)
        assert received == [HELLO, HELLO]

    async def test_nothing_else_is_sent_twice(self, tmp_path: Path) -> None:
        assert await self.flights(POST, tmp_path, None) == [POST]

    async def flights(self, data: bytes, tmp_path: Path, reply: bytes | None) -> list[bytes]:
        """What two servers received of ``data``, the first of which breaks the connection."""
        handlers: tuple[Handler, Handler] = (reset, answer(REPLY))
        async with nodes(2) as made, running_client(all_of(made), tmp_path) as running:
            for node, handler in zip(made, handlers, strict=True):
                node.handlers[SITE] = handler
            await running.up(2)
            running.prefer(made[0])
            async with carried(running, data) as client:
                if reply is None:
                    with pytest.raises(StreamResetError):
                        await read_all(client)
                else:
                    assert await read_exactly(client, len(reply)) == reply
                    client.write_eof()
                    assert await read_all(client) == b""
            return [stream.received for node in made for stream in node.streams_to(SITE)]


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
        near, far = pair()
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
