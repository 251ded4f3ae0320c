"""The Shadowsocks AEAD stream: forged, cut and oddly split records; what lies where in a block."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from circumvent.api import LayerStream, ProtocolError, StreamResetError
from circumvent.memory import LARGEST, PAGE, Account, Memory
from circumvent.net import readiness
from circumvent.net.readiness import EdgeWatch, LevelWatch
from circumvent.net.tcp import TcpStream
from circumvent.testing.far_end import FarEnd, connected
from circumvent.testing.steps import both, read_all, read_exactly, read_once, write_all
from circumvent_plugins.shadowsocks.aead import MAX_PAYLOAD, MAX_RECORD, OVERHEAD
from circumvent_plugins.shadowsocks.ciphers import CIPHERS, Cipher
from circumvent_plugins.shadowsocks.over_socket import AeadOverSocket
from circumvent_plugins.shadowsocks.over_stream import AeadOverStream
from tests.conformance.codecs import Direction, ShadowsocksCodec

RECEIVE_BUFFER = 256 * 1024
AES = CIPHERS["aes-128-gcm"]
KEY = bytes(range(16))
TAG = 16
PAYLOAD = 40
SMALL = 20 * 1024  # a receive buffer that hardly holds one record
SECOND = AES.key_size + 2 + TAG + PAYLOAD + TAG  # where the second record starts on the wire
# Around each place where one part of the wire ends and the next begins.
CUTS = [
    edge + step
    for edge in (AES.key_size, AES.key_size + 2 + TAG, SECOND, SECOND + 2 + TAG)
    for step in (-1, 0, 1)
]


@pytest.fixture(params=["edges", "levels"])
async def ends(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[AeadOverSocket, FarEnd]]:
    if request.param == "levels":
        monkeypatch.setattr(readiness, "_EDGES", 0)
    near, far = connected(small=RECEIVE_BUFFER, receive=RECEIVE_BUFFER)
    stream = AeadOverSocket(TcpStream(near), AES, KEY, account())
    peer = FarEnd(far, ShadowsocksCodec(AES.name, KEY, largest=PAYLOAD))
    yield stream, peer
    stream.abort()
    peer.close()


def account() -> Account:
    return Memory(1 << 20).account("test")


Ends = tuple[AeadOverSocket, FarEnd]


async def test_a_prefix_begins_the_connection_and_the_rest_is_drawn(ends: Ends) -> None:
    stream, peer = ends
    stream.put_prefix(b"GET / ")
    await write_all(stream, b"a request")
    sent = await asyncio.get_running_loop().sock_recv(peer.sock, RECEIVE_BUFFER)
    assert sent.startswith(b"GET / ")
    assert sent[6 : AES.key_size] != bytes(AES.key_size - 6)
    assert peer.codec.open(sent) == b"a request"


class TestForgeries:
    @pytest.mark.parametrize(
        "position",
        [
            pytest.param(0, id="salt"),
            pytest.param(SECOND, id="length"),
            pytest.param(SECOND + 2, id="tag of the length"),
            pytest.param(SECOND + 2 + TAG, id="payload"),
            pytest.param(SECOND + 2 + TAG + PAYLOAD, id="tag of the payload"),
        ],
    )
    async def test_one_changed_bit_is_a_protocol_error(self, ends: Ends, position: int) -> None:
        stream, peer = ends
        wire = bytearray(peer.codec.seal(bytes(3 * PAYLOAD)))
        wire[position] ^= 1
        await peer.send_wire(bytes(wire))
        with pytest.raises(ProtocolError, match="does not authenticate"):
            await read_all(stream)

    @pytest.mark.parametrize("length", [0, MAX_PAYLOAD + 1, 0xFFFF])
    async def test_an_impossible_length_is_a_protocol_error(self, ends: Ends, length: int) -> None:
        stream, peer = ends
        salt = os.urandom(AES.key_size)
        sealed = Direction(AES.name, KEY, salt).encrypt(length.to_bytes(2))
        await peer.send_wire(salt + sealed + bytes(PAYLOAD))
        with pytest.raises(ProtocolError, match=f"record of {length} bytes"):
            await read_all(stream)


class TestEnds:
    @pytest.mark.parametrize("kept", [1, *CUTS, SECOND + 2 + TAG + PAYLOAD + TAG - 1])
    async def test_only_between_records_is_an_end_clean(self, kept: int) -> None:
        near, far = connected(small=RECEIVE_BUFFER, receive=RECEIVE_BUFFER)
        stream = AeadOverSocket(TcpStream(near), AES, KEY, account())
        peer = FarEnd(far, ShadowsocksCodec(AES.name, KEY, largest=PAYLOAD))
        data = os.urandom(2 * PAYLOAD)
        await peer.send_wire(peer.codec.seal(data)[:kept])
        peer.cut()
        if kept in (AES.key_size, SECOND):
            assert await read_all(stream) == data[: PAYLOAD if kept == SECOND else 0]
        else:
            if kept > SECOND:
                assert await read_exactly(stream, PAYLOAD) == data[:PAYLOAD]
            with pytest.raises(StreamResetError, match="ended inside a record"):
                await read_all(stream)
        stream.abort()
        peer.close()

    async def test_a_cut_while_we_wait_for_the_rest(self, ends: Ends) -> None:
        stream, peer = ends
        await peer.send_wire(peer.codec.seal(bytes(PAYLOAD))[:-1])
        reading = asyncio.create_task(read_all(stream))
        await asyncio.sleep(0.02)
        assert not reading.done()
        peer.cut()
        with pytest.raises(StreamResetError, match="ended inside a record"):
            await reading


class TestSplits:
    async def test_a_buffer_that_ends_with_a_record_does_not_hide_the_next(
        self, ends: Ends
    ) -> None:
        """The kernel was told to wait for a large record; a small one must still wake us."""
        stream, peer = ends
        large = ShadowsocksCodec(AES.name, KEY)
        peer.codec = large
        first = large.seal(os.urandom(MAX_PAYLOAD))
        begun = AES.key_size + 2 + TAG
        await peer.send_wire(first[: begun + 100])
        await stream.wait_readable()
        assert stream.read_into(memoryview(bytearray(LARGEST))) is None
        rest = first[begun:] + large.seal(bytes(PAYLOAD))
        await peer.send_wire(rest[100:])
        await asyncio.sleep(0.02)
        assert len(await read_once(stream, MAX_RECORD + len(rest))) == MAX_PAYLOAD + PAYLOAD
        waiting = asyncio.create_task(read_once(stream))
        await asyncio.sleep(0.02)
        await peer.send(b"small")
        assert await waiting == b"small"

    @pytest.mark.parametrize("ready", [EdgeWatch, LevelWatch])
    @pytest.mark.parametrize("kernel", [SMALL, 2 * SMALL, 8 * SMALL])
    async def test_a_full_kernel_with_half_a_record_does_not_stall(
        self, ready: type[EdgeWatch | LevelWatch], kernel: int
    ) -> None:
        near, far = connected(small=RECEIVE_BUFFER, receive=kernel)
        watch = ready(near.fileno(), asyncio.get_running_loop())
        stream = AeadOverSocket(TcpStream(near, watch), AES, KEY, account())
        peer = FarEnd(far, ShadowsocksCodec(AES.name, KEY))
        data = os.urandom(50 * MAX_PAYLOAD)
        _, read = await both(peer.send(data), read_exactly(stream, len(data)))
        assert read == data
        stream.abort()
        peer.close()

    async def test_without_memory_for_half_a_record_the_stream_waits(self) -> None:
        near, far = connected(small=RECEIVE_BUFFER, receive=SMALL)
        memory = Memory(1 << 20)
        stream = AeadOverSocket(TcpStream(near), AES, KEY, memory.account("stream"))
        peer = FarEnd(far, ShadowsocksCodec(AES.name, KEY))
        data = os.urandom(20 * MAX_PAYLOAD)
        taken = list(iter(lambda: memory.account("others").try_hold(PAGE), None))
        reading = asyncio.create_task(both(peer.send(data), read_exactly(stream, len(data))))
        await asyncio.sleep(0.2)
        assert not reading.done()
        for lease in taken:
            lease.release()
        async with asyncio.timeout(5):
            assert (await reading)[1] == data
        assert memory.leased == 0
        stream.abort()
        peer.close()

    async def test_a_reader_of_a_partial_record_sleeps(self, ends: Ends) -> None:
        stream, peer = ends
        wire = peer.codec.seal(bytes(PAYLOAD))
        block = memoryview(bytearray(LARGEST))
        wakes = 0
        for byte in range(len(wire) - 1):
            await peer.send_wire(wire[byte : byte + 1])
        waiting = asyncio.ensure_future(stream.wait_readable())
        while waiting.done() or not wakes:
            await waiting
            wakes += 1
            assert stream.read_into(block) is None
            waiting = asyncio.ensure_future(stream.wait_readable())
            await asyncio.sleep(0.01)
        assert wakes < 5
        await peer.send_wire(wire[-1:])
        await waiting
        assert stream.read_into(block) == PAYLOAD


@dataclass
class Held:
    """A stream over a base that cannot be peeked at, and the memory that it may hold."""

    stream: AeadOverStream
    peer: FarEnd
    memory: Memory

    async def send_part(self) -> None:
        """All of a record but its last byte, and look at it."""
        wire = self.peer.codec.seal(bytes(PAYLOAD))
        await self.peer.send_wire(wire[:-1])
        await self.stream.wait_readable()
        await self.look()

    async def look(self) -> None:
        await asyncio.sleep(0.01)
        assert self.stream.read_into(memoryview(bytearray(LARGEST))) is None


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    near, far = connected(small=RECEIVE_BUFFER, receive=RECEIVE_BUFFER)
    memory = Memory(1 << 20)
    base = LayerStream(TcpStream(near))
    stream = AeadOverStream(base, AES, KEY, memory.account("stream"))
    peer = FarEnd(far, ShadowsocksCodec(AES.name, KEY, largest=PAYLOAD))
    yield Held(stream, peer, memory)
    stream.abort()
    peer.close()
    assert memory.leased == 0


class TestOverAnyStream:
    """A partial record is held in a lease, and nothing else is."""

    async def test_between_records_nothing_is_held(self, held: Held) -> None:
        await held.peer.send(b"whole")
        assert await read_exactly(held.stream, 5) == b"whole"
        await held.look()
        assert held.memory.leased == 0

    async def test_a_partial_record_is_held_until_it_is_whole(self, held: Held) -> None:
        wire = held.peer.codec.seal(b"in two parts")
        await held.peer.send_wire(wire[:-1])
        await held.stream.wait_readable()
        await held.look()
        assert held.memory.leased > 0
        await held.peer.send_wire(wire[-1:])
        assert await read_exactly(held.stream, 12) == b"in two parts"
        assert held.memory.leased == 0

    @pytest.mark.parametrize("kept", [1, *CUTS, SECOND + 2 + TAG + PAYLOAD + TAG - 1])
    async def test_only_between_records_is_an_end_clean(self, held: Held, kept: int) -> None:
        data = os.urandom(2 * PAYLOAD)
        await held.peer.send_wire(held.peer.codec.seal(data)[:kept])
        held.peer.cut()
        if kept >= SECOND:
            assert await read_exactly(held.stream, PAYLOAD) == data[:PAYLOAD]
        if kept in (AES.key_size, SECOND):
            assert await read_all(held.stream) == b""
        else:
            with pytest.raises(StreamResetError, match="ended inside a record"):
                await read_all(held.stream)

    async def test_without_memory_nothing_is_read_until_there_is_some(self, held: Held) -> None:
        taken = list(iter(lambda: held.memory.account("others").try_hold(PAGE), None))
        await held.peer.send(b"later")
        reading = asyncio.create_task(read_exactly(held.stream, 5))
        await asyncio.sleep(0.1)
        assert not reading.done()
        for lease in taken:
            lease.release()
        assert await reading == b"later"

    @pytest.mark.parametrize("how", ["abort", "aclose", "a reset"])
    async def test_what_is_held_is_given_back_at_the_end(self, held: Held, how: str) -> None:
        await held.send_part()
        assert held.memory.leased > 0
        if how == "abort":
            held.stream.abort()
        elif how == "aclose":
            await held.stream.aclose()
        else:
            held.peer.reset()
            with pytest.raises(StreamResetError):
                await read_all(held.stream)
        assert held.memory.leased == 0

    async def test_what_the_base_does_not_take_waits_and_is_sent(self) -> None:
        near, far = connected(small=SMALL, receive=RECEIVE_BUFFER)
        stream = AeadOverStream(LayerStream(TcpStream(near)), AES, KEY, account())
        peer = FarEnd(far, ShadowsocksCodec(AES.name, KEY))
        data = os.urandom(20 * MAX_PAYLOAD)
        _, received = await both(write_all(stream, data), peer.receive(len(data)))
        assert received == data
        stream.abort()
        peer.close()


def is_length(nonce: bytes) -> bool:
    """Lengths and payloads take turns."""
    return nonce[0] % 2 == 0


def address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


class Places:
    """Instead of a cipher: checks what lies where, and seals nothing."""

    def encrypt_into(self, nonce: bytes, data: memoryview, _: bytes | None, buf: memoryview) -> int:
        assert len(buf) == len(data) + TAG
        if is_length(nonce):  # sealed where it is: the same memory is allowed
            assert address(buf) == address(data)
        else:
            assert address(buf) + len(buf) <= address(data), "the plaintext is overwritten"
        return len(buf)

    def decrypt_into(self, nonce: bytes, data: memoryview, _: bytes | None, buf: memoryview) -> int:
        """What is opened is always a full record."""
        assert len(data) == len(buf) + TAG
        if is_length(nonce):
            assert address(buf) == address(data)
            buf[:] = MAX_PAYLOAD.to_bytes(2)
        else:
            assert address(buf) + len(buf) <= address(data), "the ciphertext is overwritten"
        return len(buf)


class Sink(TcpStream):
    """Takes note of what is written; shows as much as a buffer holds to whoever reads."""

    first = end = 0

    def write(self, _: memoryview, start: int, end: int) -> int:
        self.first, self.end = start, end
        return end - start

    def peek_into(self, buffer: memoryview) -> int | None:
        return len(buffer)

    def discard(self, count: int) -> None:
        pass


def interesting_sizes(largest: int) -> Iterator[int]:
    """All around each multiple of a record, and a sample of the rest."""
    for middle in range(0, largest + MAX_PAYLOAD, MAX_PAYLOAD):
        yield from range(max(1, middle - 40), min(middle + 40, largest) + 1)
    yield from range(1, largest + 1, 4099)
    yield largest


class TestPlaces:
    """Sealing and opening happen in one block; input and output never overlap."""

    @pytest.fixture(params=sorted({cipher.key_size for cipher in CIPHERS.values()}))
    def cipher(self, request: pytest.FixtureRequest) -> Cipher:
        return Cipher("places", request.param, lambda _: Places())

    async def test_of_writes(self, cipher: Cipher) -> None:
        block = memoryview(bytearray(LARGEST))
        near, far = socket.socketpair()
        sink = Sink(near)
        start = AeadOverSocket(sink, cipher, bytes(cipher.key_size), account()).headroom
        for size in interesting_sizes(LARGEST - start):
            stream = AeadOverSocket(sink, cipher, bytes(cipher.key_size), account())
            records = -(-size // MAX_PAYLOAD)
            for salt in (cipher.key_size, 0):  # the first write and a later one
                assert stream.write(block, start, start + size) == size
                assert sink.first >= 0
                assert sink.end - sink.first == salt + size + records * OVERHEAD
        sink.abort()
        far.close()

    async def test_of_reads(self, cipher: Cipher) -> None:
        block = memoryview(bytearray(LARGEST))
        near, far = socket.socketpair()
        sink = Sink(near)
        stream = AeadOverSocket(sink, cipher, bytes(cipher.key_size), account())
        stream.read_into(block)  # takes the salt
        for size in interesting_sizes(LARGEST - stream.record):
            count = stream.read_into(block[: stream.record + size])
            assert count
            assert count % MAX_PAYLOAD == 0
        sink.abort()
        far.close()
