"""The pump: everything arrives, and nothing is held while nothing moves."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import given

from circumvent.api import ByteStream, LayerStream
from circumvent.errors import BudgetError
from circumvent.memory import LARGEST, PAGE, SMALLEST_ARENA, Memory
from circumvent.net.pump import FIRST_READ, pump
from circumvent.net.tcp import TcpStream
from circumvent.testing.far_end import Codec, FarEnd, connected
from circumvent_plugins.shadowsocks.ciphers import CIPHERS
from circumvent_plugins.shadowsocks.over_socket import AeadOverSocket
from tests.conformance.codecs import ShadowsocksCodec

RECEIVE_BUFFER = 256 * 1024
AES = CIPHERS["aes-128-gcm"]
KEY = bytes(16)
SMALL = 8 * 1024  # of the kernel, towards the far ends


@dataclass(frozen=True, slots=True)
class Relay:
    """A client in the clear, a server behind Shadowsocks, and what lies between."""

    client: FarEnd
    server: FarEnd
    near_client: ByteStream
    near_server: ByteStream
    memory: Memory

    async def up(self) -> None:
        await pump(self.near_client, self.near_server, self.memory.account("up"), ignore)

    async def down(self) -> None:
        await pump(self.near_server, self.near_client, self.memory.account("down"), ignore)


def ignore(count: int) -> None:
    assert count > 0


@asynccontextmanager
async def relay() -> AsyncIterator[Relay]:
    client_sock, client = connected(small=SMALL, receive=RECEIVE_BUFFER)
    server_sock, server = connected(small=SMALL, receive=RECEIVE_BUFFER)
    memory = Memory(2 * SMALLEST_ARENA, poison=True)
    between = Relay(
        FarEnd(client, Codec()),
        FarEnd(server, ShadowsocksCodec(AES.name, KEY, largest=4000)),
        TcpStream(client_sock),
        AeadOverSocket(TcpStream(server_sock), AES, KEY, memory.account("server")),
        memory,
    )
    try:
        yield between
    finally:
        for stream in (between.near_client, between.near_server):
            stream.abort()
        for end in (between.client, between.server):
            end.close()


def pieces(data: bytes, seed: int) -> Iterator[bytes]:
    sizes = random.Random(seed)
    while data:
        size = sizes.choice((1, 100, PAGE, 20_000, LARGEST))
        yield data[:size]
        data = data[size:]


async def feed(end: FarEnd, data: bytes, seed: int) -> None:
    stalls = random.Random(seed)
    for piece in pieces(data, seed):
        await end.send(piece)
        if stalls.random() < 0.1:
            await asyncio.sleep(0.002)
    await end.end()


async def drain(end: FarEnd, size: int, seed: int) -> bytes:
    stalls = random.Random(seed)
    digest = hashlib.sha256()
    while size:
        data = await end.receive(min(size, stalls.choice((1, PAGE, 50_000))))
        assert data, "bytes were lost"
        digest.update(data)
        size -= len(data)
        if stalls.random() < 0.1:
            await asyncio.sleep(0.002)
    assert await end.receive_all() == b""
    return digest.digest()


amounts = st.one_of(st.integers(0, 5), st.integers(0, 400_000))


class TestContents:
    @given(up=amounts, down=amounts, seed=st.integers(0, 1 << 30))
    def test_everything_arrives_both_ways(self, up: int, down: int, seed: int) -> None:
        async def run() -> None:
            sent_up, sent_down = (
                random.Random(seed).randbytes(up),
                bytes(range(256)) * (down // 256),
            )
            async with relay() as between, asyncio.timeout(20):
                async with asyncio.TaskGroup() as group:
                    group.create_task(between.up())
                    group.create_task(between.down())
                    group.create_task(feed(between.client, sent_up, seed))
                    group.create_task(feed(between.server, sent_down, seed + 1))
                    got_up = group.create_task(drain(between.server, len(sent_up), seed + 2))
                    got_down = group.create_task(drain(between.client, len(sent_down), seed + 3))
                assert got_up.result() == hashlib.sha256(sent_up).digest()
                assert got_down.result() == hashlib.sha256(sent_down).digest()
                assert between.memory.leased == 0

        asyncio.run(run())

    @pytest.mark.parametrize("kind", ["reluctant", "behind"])
    async def test_what_a_sink_does_not_take_at_once_is_offered_again(self, kind: str) -> None:
        slow = Reluctant if kind == "reluctant" else Behind
        near, far = connected(small=SMALL, receive=RECEIVE_BUFFER)
        out, reader = connected(small=SMALL, receive=SMALL)
        source, sink = TcpStream(near), slow(TcpStream(out))
        memory = Memory(2 * SMALLEST_ARENA, poison=True)
        data = random.Random(1).randbytes(400_000)
        feeder, sipper = FarEnd(far, Codec()), FarEnd(reader, Codec())
        async with asyncio.TaskGroup() as group:
            group.create_task(pump(source, sink, memory.account("up"), ignore))
            group.create_task(feed(feeder, data, 1))
            got = group.create_task(drain(sipper, len(data), 2))
        assert got.result() == hashlib.sha256(data).digest()
        assert memory.leased == 0
        for stream in (source, sink):
            stream.abort()
        for end in (feeder, sipper):
            end.close()

    @given(turns=st.integers(0, 60), reads=st.booleans())
    def test_a_cancelled_pump_gives_everything_back(self, turns: int, *, reads: bool) -> None:
        async def run() -> None:
            async with relay() as between:
                tasks: list[asyncio.Task[None] | asyncio.Task[bytes]] = []
                tasks.append(asyncio.create_task(between.up()))
                tasks.append(asyncio.create_task(feed(between.client, bytes(300_000), turns)))
                if reads:
                    tasks.append(asyncio.create_task(drain(between.server, 300_000, turns)))
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert between.memory.leased == 0
                assert between.near_server.unsent is None

        asyncio.run(run())


class TestHolding:
    async def test_an_idle_pump_holds_nothing(self) -> None:
        async with relay() as between:
            pumping = asyncio.create_task(between.up())
            await between.client.send(b"a word")
            assert await between.server.receive(6) == b"a word"
            await asyncio.sleep(0.01)
            assert between.memory.leased == 0
            await cancel(pumping)

    async def test_a_stalled_sink_holds_no_step_and_at_most_its_unsent_tail(self) -> None:
        async with relay() as between:
            account = between.memory.account("up")
            pumping = asyncio.create_task(between.up())
            feeding = asyncio.create_task(feed(between.client, bytes(1_000_000), 1))
            await asyncio.sleep(0.1)
            unsent = between.near_server.unsent
            held = 0 if unsent is None else -(-len(unsent) // PAGE) * PAGE
            assert account.steps == 0
            assert account.held <= held + PAGE
            got = await drain(between.server, 1_000_000, 2)
            assert got == hashlib.sha256(bytes(1_000_000)).digest()
            await asyncio.gather(pumping, feeding)
            assert between.memory.leased == 0

    async def test_no_more_is_read_than_the_sink_has_room_for(self) -> None:
        near, far = connected(small=SMALL, receive=4 * LARGEST)
        out, reader = connected(small=4 * LARGEST, receive=SMALL)
        source, sink = TcpStream(near), Narrow(TcpStream(out))
        account = Memory(2 * SMALLEST_ARENA).account("up")
        with reader:
            with far:
                far.sendall(bytes(3 * LARGEST))
            await pump(source, sink, account, ignore)
            source.abort()
            sink.abort()
        assert FIRST_READ < max(sink.written) <= Narrow.ROOM

    async def test_no_room_to_keep_a_tail_is_an_error_that_leaks_nothing(self) -> None:
        async with relay() as between:
            greedy = between.memory.account("greedy")
            while greedy.try_hold(PAGE):
                pass
            before = between.memory.leased
            pumping = asyncio.create_task(between.up())
            feeding = asyncio.create_task(feed(between.client, bytes(500_000), 1))
            with contextlib.suppress(TimeoutError, BudgetError):
                async with asyncio.timeout(0.1):
                    await asyncio.shield(pumping)
            await cancel(feeding)
            await cancel(pumping)
            assert between.memory.leased == before


class Reluctant(LayerStream):
    """Takes a few bytes at a time, as a stream whose peer grants little credit."""

    def write(self, block: memoryview, start: int, end: int) -> int:
        return self.base.write(block, start, min(end, start + 3000))


class Behind(Reluctant):
    """Writes in front of its data too, and leaves half of what it takes unsent at first."""

    def __init__(self, base: ByteStream) -> None:
        super().__init__(base)
        self.headroom = 64
        self._unsent: memoryview | None = None

    @property
    def unsent(self) -> memoryview | None:
        return self._unsent

    @unsent.setter
    def unsent(self, view: memoryview | None) -> None:
        self._unsent = view

    def write(self, block: memoryview, start: int, end: int) -> int:
        block[start - self.headroom : start] = b"?" * self.headroom
        end = min(end, start + 3000)
        at = start + self.base.write(block, start, (start + end) // 2)
        self._unsent = block[at:end] if at < end else None
        return end - start

    def flush(self) -> bool:
        if self._unsent is not None:
            count = self.base.write(self._unsent, 0, len(self._unsent))
            self._unsent = self._unsent[count:] or None
        return self._unsent is None


class Narrow(LayerStream):
    """Has less room than the block that is given for it."""

    ROOM = 150 * 1024

    def __init__(self, base: ByteStream) -> None:
        super().__init__(base)
        self.written: list[int] = []

    def room(self) -> int:
        return min(self.base.room(), self.ROOM)

    def write(self, block: memoryview, start: int, end: int) -> int:
        self.written.append(end - start)
        return self.base.write(block, start, end)


async def cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, BudgetError):
        await task


pytestmark = pytest.mark.timeout(30)
