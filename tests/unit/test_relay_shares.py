"""A user's streams stay within the user's limits, and take nothing from other users."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from circumvent.memory import Memory
from circumvent.net.tcp import TcpStream
from circumvent.relay import setup
from circumvent.relay.config import RelayLimits
from circumvent.relay.egress.dialer import EgressDialer
from circumvent.relay.relay import Relay
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.handshake import send_hello
from circumvent.session.session import Session
from circumvent.session.session_stream import SessionStream
from circumvent.testing.far_end import connected
from circumvent.testing.steps import read_once
from circumvent.wire.address import Destination
from circumvent.wire.credential import make_credential
from circumvent.wire.hello import Create
from circumvent.wire.opening import format_opening

LIMIT = 8
BINDING = b"a channel"
OPENING = format_opening(Destination("never.test", 443))
BUFFER = 128 * 1024


class Never(EgressDialer):
    """Never connects; ``pending`` attempts wait, ``most`` did at a time, ``asked`` in all."""

    def __init__(self) -> None:
        self.pending = self.most = self.asked = 0

    async def open(self, destination: Destination, user: str) -> TcpStream:
        assert (destination.host, bool(user)) == ("never.test", True)
        self.asked += 1
        self.pending += 1
        self.most = max(self.most, self.pending)
        try:
            await asyncio.Event().wait()
        finally:
            self.pending -= 1
        raise AssertionError


@dataclass(frozen=True, slots=True)
class World:
    relay: Relay
    egress: Never
    client: Session

    def open(self, count: int) -> list[SessionStream]:
        streams = [self.client.open(OPENING) for _ in range(count)]
        for stream in streams:
            stream.write(memoryview(b""), 0, 0)  # let the opening go
        return streams

    @property
    def known(self) -> int:
        """Streams that one of the session's ends has not forgotten."""
        (hosted,) = self.relay._sessions.host.sessions.values()  # noqa: SLF001
        return self.client.open_streams + hosted.session.open_streams

    @property
    def counted(self) -> int:
        (user,) = self.relay.status().users
        return user.streams


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """A relay whose user may have ``LIMIT`` streams, and a session of that user."""
    home = setup.create(folder / "relay", setup.NewRelay("127.0.0.1:443", "relay.example:443"))
    limited = replace(
        home, config=msgspec.structs.replace(home.config, limits=RelayLimits(streams=LIMIT))
    )
    relay, egress = Relay(limited), Never()
    relay._sessions.egress = egress  # noqa: SLF001 - where the relay ends
    near, far = connected(small=BUFFER, receive=BUFFER)
    far.setblocking(False)
    host = relay._sessions.host  # noqa: SLF001 - without the front, which is no part of this
    serving = asyncio.ensure_future(host.serve_carrier(TcpStream(far), BINDING))
    account, stream = Memory(8 << 20).account("client"), TcpStream(near)
    credential = make_credential(home.users[0].raw_token, BINDING)
    hello = Create(1, os.urandom(16), os.urandom(32), credential)
    _, leftover = await send_hello(stream, account, hello)
    client = Session(account, SessionLimits(), is_client=True)
    client.attach(1, stream, 0.001, leftover)
    try:
        yield World(relay, egress, client)
    finally:
        await client.aclose()
        await serving
        await host.aclose()
    assert (egress.pending, host._tasks) == (0, set())  # noqa: SLF001


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - most conditions have no event
            await asyncio.sleep(0.005)


async def refused(stream: SessionStream) -> bool:
    with pytest.raises(Exception, match=r"destination|lost"):
        await read_once(stream)
    return True


async def test_streams_that_are_being_opened_count(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        streams = here.open(2 * LIMIT)
        await until(lambda: here.egress.pending == LIMIT)
        async with asyncio.timeout(20):
            assert all([await refused(stream) for stream in streams[LIMIT:]])
        assert (here.egress.asked, here.counted) == (LIMIT, LIMIT)
        for stream in streams:
            stream.abort()
        await until(lambda: here.egress.pending == here.counted == 0)


async def test_rapid_resets_leave_nothing_behind(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        for number in range(10):
            streams = here.open(2 * LIMIT)
            if number % 2:  # else the reset comes together with what it resets
                asked = here.egress.asked
                await until(lambda asked=asked: here.egress.asked > asked)  # type: ignore[misc]
            for stream in streams:
                stream.abort()
            await until(lambda: here.known == 0)  # as many again at once would be a violation
        await until(lambda: here.egress.pending == here.counted == 0)
        assert here.egress.most <= LIMIT
        here.open(1)
        await until(lambda: here.egress.pending == 1)


async def test_a_destination_is_given_up_when_its_stream_is_closed(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        (stream,) = here.open(1)
        await until(lambda: here.egress.pending == 1)
        await stream.aclose()
        await until(lambda: here.egress.pending == here.counted == 0)


async def test_a_destination_is_still_opened_for_bytes_that_were_written(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        (stream,) = here.open(1)
        stream.write(memoryview(b"last bytes"), 0, 10)
        await until(lambda: here.egress.pending == 1)
        await stream.aclose()
        await asyncio.sleep(0.1)
        assert here.egress.pending == 1


async def test_nothing_is_opened_for_a_session_that_ended(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.open(LIMIT)
        await until(lambda: here.egress.pending == LIMIT)
        await here.client.aclose()
        await until(lambda: here.egress.pending == here.counted == 0)
