"""Streams of a session are ByteStreams like all others, over carriers that come and go."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from socket import SO_LINGER, SO_SNDBUF, SOL_SOCKET
from typing import ClassVar

import pytest

from circumvent.api import (
    DestinationError,
    HandshakeError,
    LayerStream,
    Reason,
    StreamResetError,
)
from circumvent.memory import LARGEST, PAGE, Memory
from circumvent.net.tcp import TcpStream
from circumvent.session.carrier_io import CarrierIO
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.handshake import send_hello
from circumvent.session.join import join
from circumvent.session.session import CLOSE_SECONDS, Session
from circumvent.session.session_stream import SessionStream
from circumvent.testing.byte_stream import ByteStreamContract
from circumvent.testing.far_end import Codec, FarEnd, connected
from circumvent.testing.steps import Pair, both, read_all, read_exactly, read_once, write_all
from circumvent.wire.frames import PAD, CloseReason, FrameKind, ResetReason, pack
from circumvent.wire.hello import Create, parse_hello
from tests.bonding.sessions import BUFFER, OPENING, Bond, SessionEnd, bond
from tests.unit.local_sockets import until

RESET = struct.pack("ii", 1, 0)


class TestSessionStreams(ByteStreamContract):
    """The whole contract of a ByteStream, over two carriers."""

    @pytest.fixture
    async def pair(self) -> AsyncIterator[Pair]:
        async with bond() as ends:
            near, far = await ends.open()
            yield Pair(near, SessionEnd(far))


class Recorder(LayerStream):
    """Remembers what was written to a carrier, piece by piece."""

    pieces: ClassVar[list[bytes]] = []

    def write(self, block: memoryview, start: int, end: int) -> int:
        count = super().write(block, start, end)
        self.pieces.append(bytes(block[start : start + count]))
        return count


async def test_the_opening_of_a_stream_is_sent_with_its_first_data() -> None:
    async with bond(0) as ends:
        ends.attach(Recorder)
        talker, hearer = await ends.open()
        await write_all(talker, b"the carriers have greeted each other")
        near = ends.client.open(OPENING)
        Recorder.pieces.clear()
        for _ in range(3):  # what others say meanwhile does not take it along
            await write_all(talker, b"x")
            await read_once(hearer)
            await asyncio.sleep(0.02)
        assert not [piece for piece in Recorder.pieces if OPENING in piece]
        await write_all(near, b"first words")
        far, opening = await ends.opened.get()
        assert opening == OPENING
        assert await read_exactly(far, 11) == b"first words"
        assert len([piece for piece in Recorder.pieces if OPENING in piece]) == 1
        assert any(OPENING in piece and b"first words" in piece for piece in Recorder.pieces)


async def test_pings_and_their_answers_differ_in_length() -> None:
    async with bond(0) as ends:
        ends.attach(Recorder)
        Recorder.pieces.clear()
        for number in range(1, 11):
            ends.client.check_carriers()
            async with asyncio.timeout(5):
                while len(Recorder.pieces) < 2 * number:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.001)
        assert len({len(piece) for piece in Recorder.pieces}) > 3


async def test_handshakes_differ_in_length() -> None:
    lengths = set()
    account = Memory(1 << 20).account("client")
    for _ in range(10):
        near, far = connected(small=BUFFER, receive=BUFFER)
        stream, peer = TcpStream(near), FarEnd(far, Codec())
        saying = asyncio.create_task(
            send_hello(stream, account, Create(1, bytes(16), bytes(32), b""))
        )
        hello = await asyncio.get_running_loop().sock_recv(far, 1 << 16)
        found = parse_hello(hello)
        assert found is not None
        assert not hello[found[1] :].replace(PAD, b"")
        lengths.add(len(hello))
        peer.close()
        with pytest.raises(HandshakeError):
            await saying
        stream.abort()
    assert len(lengths) > 3


async def test_padding_changes_nothing() -> None:
    async with bond(1) as ends:
        near, far = await ends.open()
        for session in (ends.client, ends.relay):
            session.receive(session.carriers[1].carrier, memoryview(PAD * 100))
        await write_all(near, b"question")
        await write_all(far, b"answer")
        assert (await read_exactly(far, 8), await read_exactly(near, 6)) == (b"question", b"answer")


async def send_and_end(stream: object, data: bytes) -> None:
    await write_all(stream, data)  # type: ignore[arg-type]
    stream.write_eof()  # type: ignore[attr-defined]


def reset(ends: Bond, number: int) -> None:
    """The carrier is cut with a reset by somebody in between."""
    for sock in ends.sockets[number]:
        sock.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
    for link in (ends.client.carriers.get(number), ends.relay.carriers.get(number)):
        if link is not None:
            link.stream.abort()


async def test_a_download_outlives_every_carrier_it_began_on() -> None:
    async with bond(3) as ends:
        near, far = await ends.open()
        data = os.urandom(4 << 20)
        sending = asyncio.create_task(send_and_end(far, data))
        got = b""
        for number in (1, 2, 3):
            while len(got) < number << 20:
                got += await read_once(near)
            ends.attach()
            reset(ends, number)
        got += await read_all(near)
        await sending
        assert got == data


async def test_with_no_carrier_left_streams_wait_for_the_next_one() -> None:
    async with bond(1) as ends:
        near, far = await ends.open()
        await write_all(far, b"before")
        assert await read_exactly(near, 6) == b"before"
        reset(ends, 1)
        await write_all(far, b"between")
        await asyncio.sleep(0.01)
        ends.attach()
        assert await read_exactly(near, 7) == b"between"


async def test_many_streams_share_the_carriers() -> None:
    async with bond(3) as ends:
        pairs = [await ends.open() for _ in range(20)]
        data = [os.urandom(50_000 + 1000 * i) for i in range(20)]
        sends = [send_and_end(far, each) for (_, far), each in zip(pairs, data, strict=True)]
        received = await both(*(read_all(near) for near, _ in pairs), *sends)
        assert received[: len(data)] == data


@pytest.mark.parametrize(
    ("reason", "expected"),
    [(ResetReason.REFUSED, Reason.REFUSED), (ResetReason.FORBIDDEN, Reason.FORBIDDEN)],
)
async def test_a_destination_that_cannot_be_reached_is_told_as_such(
    reason: ResetReason, expected: Reason
) -> None:
    async with bond() as ends:
        near, far = await ends.open()
        far.cut(reason)
        with pytest.raises(DestinationError) as caught:
            await read_once(near)
        assert caught.value.reason is expected


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (ResetReason.BROKEN, "the destination cut"),
        (ResetReason.DRAINING, "about to stop"),
        (ResetReason.MEMORY, "no memory"),
    ],
)
async def test_other_cuts_are_resets_with_their_reason(reason: ResetReason, text: str) -> None:
    async with bond() as ends:
        near, far = await ends.open()
        far.cut(reason)
        with pytest.raises(StreamResetError, match=f"connection lost: .*{text}"):
            await read_once(near)


async def test_the_end_of_the_session_is_a_reset_for_all_streams() -> None:
    async with bond() as ends:
        near, _ = await ends.open()
        reading = asyncio.create_task(read_once(near))
        await asyncio.sleep(0.01)
        await ends.relay.aclose(CloseReason.DRAINING)
        with pytest.raises(StreamResetError, match="over"):
            await reading
        assert ends.client.closed is CloseReason.DRAINING


async def test_a_peer_that_breaks_the_rules_loses_the_session() -> None:
    async with bond(1) as ends:
        near, _ = await ends.open()
        stream = ends.relay.carriers[1].stream
        await asyncio.sleep(0.01)
        block = memoryview(bytearray(b"\xff" * 16))
        stream.write(block, 0, 16)
        with pytest.raises(StreamResetError):
            await read_once(near)
        assert ends.client.closed is CloseReason.VIOLATION
        assert "unknown frame" in str(ends.client.error)


async def test_idle_streams_hold_no_memory() -> None:
    async with bond() as ends:
        pairs = [await ends.open() for _ in range(50)]
        for near, far in pairs:
            await write_all(far, os.urandom(LARGEST // 8))
            await read_exactly(near, LARGEST // 8)
        # The last acknowledgement is still on its way.
        await until(lambda: [memory.leased for memory in ends.memories] == [0, 0])


class TestEndsOfCarriers:
    """A carrier that ends in order ends as others do: what cuts is a cut."""

    @pytest.fixture
    async def alone(self) -> AsyncIterator[tuple[Session, CarrierIO, FarEnd]]:
        """A session with one carrier, and its far end."""
        account = Memory(8 << 20, poison=True).account("session")
        session = Session(account, SessionLimits(), is_client=True)
        near, far = connected(small=BUFFER, receive=BUFFER)
        link = session.attach(1, TcpStream(near), 0.001)
        peer = FarEnd(far, Codec())
        yield session, link, peer
        peer.close()
        await session.aclose()
        assert account.leased == 0

    async def test_with_the_session(self, alone: tuple[Session, CarrierIO, FarEnd]) -> None:
        session, _, peer = alone
        closing = asyncio.create_task(session.aclose())
        assert await peer.receive_all()
        await peer.end()
        started = session.loop.time()
        await closing
        assert session.loop.time() < started + CLOSE_SECONDS / 2

    async def test_by_the_peer(self, alone: tuple[Session, CarrierIO, FarEnd]) -> None:
        session, link, peer = alone
        await peer.end()
        assert await peer.receive_all()
        await link.wait_closed()
        assert not session.carriers

    async def test_by_a_reset(self, alone: tuple[Session, CarrierIO, FarEnd]) -> None:
        session, link, peer = alone
        peer.reset()
        await link.wait_closed()
        assert not session.carriers
        assert link.stream.vitals() is None, "its socket is still open"

    async def test_as_a_spare_one(self, alone: tuple[Session, CarrierIO, FarEnd]) -> None:
        session, link, peer = alone
        await peer.receive(16)
        session.drop(link)
        await peer.receive_all()
        await link.wait_closed()


async def test_streams_that_come_together_are_refused_one_by_one() -> None:
    refused: list[SessionStream] = []

    def refuse(stream: SessionStream, _: bytes) -> None:
        stream.cut(ResetReason.REFUSED)
        refused.append(stream)

    account = Memory(8 << 20).account("session")
    session = Session(account, SessionLimits(streams=400), is_client=False, opened=refuse)
    near, far = connected(small=BUFFER, receive=BUFFER)
    link = session.attach(1, TcpStream(near), 0.001)
    opens = b"".join(pack(FrameKind.OPEN, 2 * each + 1, 0, OPENING) for each in range(400))
    session.receive(link.carrier, memoryview(opens))
    assert len(refused) == 400
    peer = FarEnd(far, Codec())
    peer.close()
    await session.aclose()


class TestJoin:
    """What a relay does with a stream and the connection to its destination."""

    @pytest.fixture
    async def joined(self) -> AsyncIterator[tuple[SessionStream, FarEnd, asyncio.Task[None]]]:
        """The client's stream, the destination, and what joins them."""
        near, far = connected(small=PAGE, receive=BUFFER)
        near.setsockopt(SOL_SOCKET, SO_SNDBUF, BUFFER)
        destination = FarEnd(far, Codec())
        async with bond(1) as ends:
            client, stream = await ends.open()
            account = ends.memories[1].account("session")
            moved: list[int] = []
            joining = asyncio.create_task(
                join(stream, TcpStream(near), account, moved.append, moved.append)
            )
            await write_all(client, b"question")
            assert await destination.receive(8) == b"question"
            yield client, destination, joining
            destination.close()
        assert moved[0] == 8

    async def test_both_may_end_one_after_the_other(
        self, joined: tuple[SessionStream, FarEnd, asyncio.Task[None]]
    ) -> None:
        client, destination, joining = joined
        await destination.send(b"answer")
        await destination.end()
        assert await read_all(client) == b"answer"
        await send_and_end(client, bytes(BUFFER // 2))
        await joining
        assert await destination.receive_all() == bytes(BUFFER // 2)

    async def test_a_destination_that_breaks_breaks_the_stream(
        self, joined: tuple[SessionStream, FarEnd, asyncio.Task[None]]
    ) -> None:
        client, destination, joining = joined
        destination.reset()
        with pytest.raises(StreamResetError):
            await read_once(client)
        await joining

    async def test_a_stream_that_breaks_breaks_the_destination(
        self, joined: tuple[SessionStream, FarEnd, asyncio.Task[None]]
    ) -> None:
        client, destination, joining = joined
        client.abort()
        with pytest.raises(ConnectionResetError):
            await destination.receive_all()
        await joining

    async def test_who_gives_up_leaves_nothing(
        self, joined: tuple[SessionStream, FarEnd, asyncio.Task[None]]
    ) -> None:
        client, destination, joining = joined
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        with pytest.raises(StreamResetError):
            await read_once(client)
        with pytest.raises(ConnectionResetError):
            await destination.receive_all()
