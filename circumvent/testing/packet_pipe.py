"""What every PacketPipe promises. Inherit from ``PacketPipeContract`` and provide ``packets``."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from typing import Protocol

import pytest

from circumvent.api import PacketPipe, StreamResetError
from circumvent.memory import PAGE
from circumvent.wire.address import Destination

CANARY = 0xA5
GIVE_UP_AFTER = 30.0  # seconds; nothing here takes one where nothing else runs
TRIES = 20  # at something that may be lost


class PacketPeer(Protocol):
    """Somebody that packets are sent to: ``address`` is where."""

    address: Destination

    async def send(self, data: bytes) -> None:
        """Send a packet to the pipe under test."""
        ...

    async def receive(self) -> bytes:
        """The next packet from the pipe under test."""
        ...


@dataclass(frozen=True, slots=True)
class Packets:
    """The pipe under test, two peers, and the largest packet that it carries."""

    pipe: PacketPipe
    one: PacketPeer
    other: PacketPeer
    largest: int


def send(pipe: PacketPipe, data: bytes, destination: Destination) -> bool:
    """Send from a block of its own, which must stay untouched around the packet."""
    front, start = PAGE, PAGE + pipe.headroom
    end = start + len(data)
    block = memoryview(bytearray((CANARY,)) * (end + PAGE))
    block[start:end] = data
    is_sent = pipe.send(block, start, end, destination)
    untouched = bytes(block[:front]) + bytes(block[end:])
    assert untouched == bytes((CANARY,)) * len(untouched), "wrote outside of its room"
    block[:] = bytes(len(block))  # whoever still looks here sends zeros
    return is_sent


async def receive(pipe: PacketPipe, size: int) -> tuple[bytes, Destination]:
    """The next packet of at most ``size`` bytes, and where it came from."""
    block = memoryview(bytearray(size + pipe.overhead))
    async with asyncio.timeout(GIVE_UP_AFTER):
        while True:
            await pipe.wait_readable()
            found = pipe.receive_into(block)
            if found is not None:
                return bytes(block[: found[0]]), found[1]
            await asyncio.sleep(0)


class PacketPipeContract:
    """The promises of ``circumvent.api.PacketPipe``, one by one."""

    @pytest.mark.parametrize("size", [1, 1200])
    async def test_a_packet_arrives_whole_both_ways(self, packets: Packets, size: int) -> None:
        up, down = os.urandom(size), os.urandom(size)
        assert send(packets.pipe, up, packets.one.address)
        assert await packets.one.receive() == up
        await packets.one.send(down)
        assert await receive(packets.pipe, size) == (down, packets.one.address)

    async def test_the_largest_packet_arrives(self, packets: Packets) -> None:
        data = os.urandom(packets.largest)
        assert send(packets.pipe, data, packets.one.address)
        assert await packets.one.receive() == data

    async def test_each_peer_gets_and_gives_its_own(self, packets: Packets) -> None:
        assert send(packets.pipe, b"for one", packets.one.address)
        assert send(packets.pipe, b"for the other", packets.other.address)
        assert await packets.other.receive() == b"for the other"
        assert await packets.one.receive() == b"for one"
        await packets.other.send(b"of the other")
        assert await receive(packets.pipe, 99) == (b"of the other", packets.other.address)

    async def test_packets_are_not_joined(self, packets: Packets) -> None:
        await packets.one.send(b"first")
        await packets.one.send(b"second")
        received = {(await receive(packets.pipe, 99))[0] for _ in range(2)}
        assert received == {b"first", b"second"}

    async def test_a_packet_that_does_not_fit_is_dropped_whole(self, packets: Packets) -> None:
        await packets.one.send(bytes(100))
        await packets.one.send(b"small")
        assert await receive(packets.pipe, 50) == (b"small", packets.one.address)

    async def test_without_a_packet_nothing_is_there(self, packets: Packets) -> None:
        assert packets.pipe.receive_into(memoryview(bytearray(PAGE))) is None

    async def test_a_waiting_reader_sleeps_and_is_woken(self, packets: Packets) -> None:
        reading = asyncio.ensure_future(receive(packets.pipe, 99))
        await asyncio.sleep(0.004)
        assert not reading.done()
        await packets.one.send(b"x")
        assert await reading == (b"x", packets.one.address)

    async def test_too_many_are_dropped_and_the_rest_goes_on(self, packets: Packets) -> None:
        for _ in range(TRIES * TRIES):
            if not send(packets.pipe, bytes(packets.largest), packets.one.address):
                break
        async with asyncio.timeout(GIVE_UP_AFTER):
            while not send(packets.pipe, b"later", packets.other.address):
                await packets.one.receive()
        assert await packets.other.receive() == b"later"

    async def test_an_abort_wakes_who_waits_and_is_an_end(self, packets: Packets) -> None:
        pipe = packets.pipe
        reading = asyncio.ensure_future(receive(pipe, 99))
        await asyncio.sleep(0.004)
        pipe.abort()
        with pytest.raises(StreamResetError):
            await reading
        with pytest.raises(StreamResetError):
            send(pipe, b"x", packets.one.address)
        pipe.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GIVE_UP_AFTER):
                await pipe.aclose()
