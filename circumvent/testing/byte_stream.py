"""What every ByteStream promises. Inherit from ``ByteStreamContract`` and provide ``pair``.

Where the protocol has records inherit from ``RecordContract`` too, and where it announces its end
from ``AnnouncedEndContract``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from circumvent.api import ByteStream, StreamResetError
from circumvent.memory import LARGEST, PAGE
from circumvent.testing.far_end import FarEnd
from circumvent.testing.steps import (
    FEW,
    Pair,
    blocked,
    both,
    fill,
    read_all,
    read_exactly,
    read_once,
    read_until_cut,
    settle,
    take,
    write_all,
)


class ByteStreamContract:
    """The promises of ``circumvent.api.ByteStream``, one by one."""

    @pytest.mark.parametrize("size", [1, 0x4001, 2 * LARGEST + 1])
    async def test_bytes_arrive_both_ways(self, pair: Pair, size: int) -> None:
        up, down = os.urandom(size), os.urandom(size)
        _, received, _, read = await both(
            write_all(pair.near, up),
            pair.far.receive(size),
            pair.far.send(down),
            read_exactly(pair.near, size),
        )
        assert (received, read) == (up, down)

    async def test_the_wire_may_bring_one_byte_at_a_time(self, pair: Pair) -> None:
        data = os.urandom(100)
        _, read = await both(
            self.send_slowly(pair.far, data), read_exactly(pair.near, 2 * len(data))
        )
        assert read == data + data

    async def test_one_byte_writes_arrive(self, pair: Pair) -> None:
        data = os.urandom(50)
        await write_all(pair.near, data, piece=1)
        assert await pair.far.receive(len(data)) == data

    async def test_the_smallest_buffer_suffices(self, pair: Pair) -> None:
        data = os.urandom(pair.near.record + 7)
        _, read = await both(
            pair.far.send(data), read_exactly(pair.near, len(data), pair.near.record)
        )
        assert read == data

    async def test_an_empty_write_adds_nothing(self, pair: Pair) -> None:
        assert take(pair.near, b"") == 0
        await settle(pair.near)
        await write_all(pair.near, b"after")
        assert await pair.far.receive(5) == b"after"

    async def test_we_end_and_the_peer_goes_on(self, pair: Pair) -> None:
        await write_all(pair.near, b"the last bytes")
        await self.end(pair.near)
        assert await pair.far.receive_all() == b"the last bytes"
        data = os.urandom(LARGEST)
        _, read = await both(self.send_and_end(pair.far, data), read_all(pair.near))
        assert read == data

    async def test_the_peer_ends_and_we_go_on(self, pair: Pair) -> None:
        await self.send_and_end(pair.far, b"the last bytes")
        assert await read_all(pair.near) == b"the last bytes"
        data = os.urandom(LARGEST)
        await both(self.write_and_end(pair.near, data), self.expect(pair.far, data))

    async def test_the_end_stays_the_end(self, pair: Pair) -> None:
        await self.send_and_end(pair.far, b"x")
        assert await read_all(pair.near) == b"x"
        assert await read_all(pair.near) == b""

    async def test_data_before_the_end_is_not_lost(self, pair: Pair) -> None:
        data = os.urandom(3 * PAGE)
        await self.send_and_end(pair.far, data)
        await asyncio.sleep(0.004)
        assert await read_all(pair.near, pair.near.record + FEW) == data

    async def test_ending_while_the_peer_sends_loses_nothing(self, pair: Pair) -> None:
        data = os.urandom(4 * LARGEST)

        async def read_and_end_meanwhile() -> bytes:
            first = await read_once(pair.near, pair.near.record + FEW)
            await write_all(pair.near, b"enough")
            await self.end(pair.near)
            return first + await read_all(pair.near)

        _, read = await both(self.send_and_end(pair.far, data), read_and_end_meanwhile())
        assert read == data
        assert await pair.far.receive_all() == b"enough"

    async def test_back_pressure_loses_nothing(self, pair: Pair) -> None:
        written = await fill(pair.near)
        waiting = await blocked(pair.near.wait_writable())

        async def go_on() -> None:
            await waiting
            await settle(pair.near)

        _, received = await both(go_on(), pair.far.receive(len(written)))
        assert received == written
        assert pair.near.room()

    async def test_an_end_behind_a_full_kernel_arrives(self, pair: Pair) -> None:
        written = await fill(pair.near)
        early = b""
        while not pair.near.flush():
            early += await pair.far.receive(1)
        _, late = await both(self.end(pair.near), pair.far.receive_all())
        assert early + bytes(late) == written  # type: ignore[call-overload]

    async def test_closing_in_order_loses_nothing(self, pair: Pair) -> None:
        data = os.urandom(2 * PAGE)
        await write_all(pair.near, data)
        await pair.near.aclose()
        await pair.near.aclose()
        assert await pair.far.receive_all() == data

    async def test_closing_in_order_is_no_reset_though_something_came(self, pair: Pair) -> None:
        await pair.far.send(b"never read")
        await pair.near.wait_readable()
        await pair.near.aclose()
        assert await pair.far.receive_all() == b""

    async def test_an_abort_is_a_reset(self, pair: Pair) -> None:
        pair.near.abort()
        pair.near.abort()
        with pytest.raises(ConnectionResetError):
            await pair.far.receive_all()

    async def test_an_abort_wakes_those_who_wait(self, pair: Pair) -> None:
        await self.drain_what_the_handshake_left(pair.near)
        await fill(pair.near)
        reader = await blocked(pair.near.wait_readable())
        writer = await blocked(pair.near.wait_writable())
        assert not reader.done()
        pair.near.abort()
        await both(reader, writer)

    async def test_after_an_abort_nothing_can_be_read_or_written(self, pair: Pair) -> None:
        pair.near.abort()
        await both(pair.near.wait_readable(), pair.near.wait_writable())
        with pytest.raises(StreamResetError):
            pair.near.read_into(memoryview(bytearray(LARGEST)))
        with pytest.raises(StreamResetError):
            take(pair.near, b"x")
        pair.near.write_eof()
        await pair.near.aclose()

    async def test_a_reset_by_the_peer_is_an_error_on_both_sides(self, pair: Pair) -> None:
        await self.drain_what_the_handshake_left(pair.near)
        await fill(pair.near)
        reader = await blocked(pair.near.wait_readable())
        writer = await blocked(pair.near.wait_writable())
        pair.far.reset()
        await both(reader, writer)
        with pytest.raises(StreamResetError):
            await read_once(pair.near)
        with pytest.raises(StreamResetError):
            await write_all(pair.near, b"never arrives")
        pair.near.write_eof()
        await pair.near.aclose()

    async def test_a_cancelled_reader_misses_nothing(self, pair: Pair) -> None:
        await self.drain_what_the_handshake_left(pair.near)
        reader = await blocked(pair.near.wait_readable())
        await self.send_and_end(pair.far, b"meanwhile")
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader
        assert await read_all(pair.near) == b"meanwhile"

    async def test_a_cancelled_writer_goes_on_later(self, pair: Pair) -> None:
        written = await fill(pair.near)
        writer = await blocked(pair.near.wait_writable())
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer
        _, received = await both(settle(pair.near), pair.far.receive(len(written)))
        assert received == written

    async def test_a_waiting_reader_does_not_spin(self, pair: Pair) -> None:
        await self.drain_what_the_handshake_left(pair.near)
        reader = await blocked(pair.near.wait_readable())
        assert not reader.done()
        reader.cancel()

    @staticmethod
    async def drain_what_the_handshake_left(stream: ByteStream) -> None:
        """Tickets of TLS and the like wake a reader once and are no data."""
        block = memoryview(bytearray(LARGEST))
        await asyncio.sleep(0.004)
        assert stream.read_into(block) is None
        await asyncio.sleep(0)

    @staticmethod
    async def end(stream: ByteStream) -> None:
        stream.write_eof()
        await settle(stream)

    @staticmethod
    async def send_slowly(far: FarEnd, data: bytes) -> None:
        await far.send(data, piece=1)
        await far.send(data, piece=3)

    @staticmethod
    async def send_and_end(far: FarEnd, data: bytes) -> None:
        await far.send(data)
        await far.end()

    @classmethod
    async def write_and_end(cls, near: ByteStream, data: bytes) -> None:
        await write_all(near, data)
        await cls.end(near)

    @staticmethod
    async def expect(far: FarEnd, data: bytes) -> None:
        assert await far.receive_all() == data


class RecordContract:
    """A stream that knows where a record ends can tell when somebody on the path cuts it."""

    async def test_an_end_inside_a_record_is_a_cut(self, pair: Pair) -> None:
        await pair.far.send(b"whole")
        await pair.far.send_wire(pair.far.codec.seal(bytes(100))[:-1])
        pair.far.cut()
        read = await read_until_cut(pair.near)
        assert read.startswith(b"whole")
        assert len(read) < len(b"whole") + 100

    async def test_a_cut_stays_a_cut(self, pair: Pair) -> None:
        await pair.far.send_wire(pair.far.codec.seal(b"never whole")[:-1])
        pair.far.cut()
        await read_until_cut(pair.near)
        await read_until_cut(pair.near)


class AnnouncedEndContract(RecordContract):
    """A stream whose end is announced can tell every cut."""

    async def test_an_end_that_was_not_announced_is_a_cut(self, pair: Pair) -> None:
        data = os.urandom(3 * PAGE)
        await pair.far.send(data)
        pair.far.cut()
        assert await read_until_cut(pair.near) == data

    async def test_a_cut_after_our_own_end_is_a_cut(self, pair: Pair) -> None:
        await ByteStreamContract.end(pair.near)
        await pair.far.send(b"half of the answer")
        pair.far.cut()
        assert await read_until_cut(pair.near) == b"half of the answer"
