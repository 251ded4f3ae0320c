"""A relay with 1,000 sessions of three carriers each: what it holds and what it spends."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from circumvent.api import ServerEntry
from circumvent.memory import Account, Memory
from circumvent.net.dialer import NetDialer
from circumvent.net.sockets import SocketBuffers
from circumvent.net.tls import TlsClient
from circumvent.proxy.kernel import raise_descriptor_limit
from circumvent.session.handshake import introduce
from circumvent.session.limits import Limits
from circumvent.session.session import Session
from circumvent.wire.address import Destination
from circumvent.wire.credential import make_credential
from circumvent.wire.hello import ID_SIZE, SECRET_SIZE, Attach, Create, Hello, attach_proof
from circumvent.wire.opening import format_opening
from circumvent.wire.relay_link import RelayLink, parse_relay_link
from circumvent_plugins.tls_carrier import TlsCarrier
from tests.bench.proc import cpu_seconds, dirty_kib
from tests.conformance.byte_stream import read_exactly, write_all
from tests.peers.relay import RunningRelay, configure, make_relay, running_relay

HOST = "127.0.0.1"
SESSIONS, CARRIERS = 1000, 3
IDLE_SECONDS = 30.0  # PINGs come every 10 to 20
PIECE = 64 * 1024
ROUNDS = 4
AT_ONCE = 50
SMALL = SocketBuffers(send=16 * 1024, receive=64 * 1024)


@dataclass(frozen=True, slots=True)
class Crowd:
    """All clients in this one process."""

    link: RelayLink
    dialer: NetDialer
    account: Account

    async def begin(self) -> Session:
        """One client's session, with all its carriers."""
        name, secret = secrets.token_bytes(ID_SIZE), secrets.token_bytes(SECRET_SIZE)
        session = Session(self.account, Limits(send=256 * 1024, receive=256 * 1024), is_client=True)
        for number in range(1, CARRIERS + 1):
            entry = ServerEntry("relay", self.link.host, self.link.port, "", "", self.link)
            pipe = await TlsCarrier().connect(entry, self.dialer, self.account)
            hello: Hello = (
                Create(number, name, secret, make_credential(self.link.token, pipe.binding))
                if number == 1
                else Attach(number, name, attach_proof(secret, name, number, pipe.binding))
            )
            _, leftover = await introduce(pipe.stream, self.account, hello)
            session.attach(number, pipe.stream, 0.01, leftover)
        return session


@asynccontextmanager
async def echo() -> AsyncIterator[Destination]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        yield Destination(HOST, server.sockets[0].getsockname()[1])


async def talk(session: Session, place: Destination) -> None:
    stream = session.open(format_opening(place))
    data = secrets.token_bytes(PIECE)
    for _ in range(ROUNDS):
        await write_all(stream, data)
        assert await read_exactly(stream, PIECE, PIECE) == data
    await stream.aclose()


@pytest.mark.prove
@pytest.mark.timeout(280)
async def test_a_thousand_sessions(tmp_path: Path) -> None:
    raise_descriptor_limit()
    directory = tmp_path / "relay"
    port = make_relay(directory)
    configure(directory, "[limits]", f"sessions = {SESSIONS}")
    with running_relay(directory, port) as relay:
        pid, empty = relay.process.pid, dirty_kib(relay.process.pid)
        crowd = Crowd(
            parse_relay_link(relay.link),
            NetDialer(TlsClient(), SMALL),
            Memory(1 << 29).account("crowd"),
        )
        sessions: list[Session] = []
        async with echo() as place:
            began, spent = time.monotonic(), cpu_seconds(pid)
            for _ in range(SESSIONS // AT_ONCE):
                sessions += await asyncio.gather(*(crowd.begin() for _ in range(AT_ONCE)))
            report(relay, "set up", began, spent, empty)
            began, spent = time.monotonic(), cpu_seconds(pid)
            await asyncio.sleep(IDLE_SECONDS)
            report(relay, "idle", began, spent, empty)
            began, spent = time.monotonic(), cpu_seconds(pid)
            for at in range(0, SESSIONS, AT_ONCE):
                await asyncio.gather(*(talk(each, place) for each in sessions[at : at + AT_ONCE]))
            report(relay, f"{SESSIONS * ROUNDS * PIECE >> 20} MiB each way", began, spent, empty)
            assert all(len(session.links) == CARRIERS for session in sessions)
            await asyncio.gather(*(session.aclose() for session in sessions))
        await asyncio.sleep(1)
        report(relay, "all gone", time.monotonic(), cpu_seconds(pid), empty)


def report(relay: RunningRelay, what: str, began: float, spent: float, empty: int) -> None:
    """Measured from outside, and by the relay itself."""
    pid, seconds = relay.process.pid, time.monotonic() - began
    status = relay.status()
    memory, users = status["memory"], status["users"]
    assert isinstance(memory, dict)
    assert isinstance(users, list)
    print(
        f"{what}: {users[0]['sessions']} sessions, {users[0]['carriers']} carriers;"
        f" {cpu_seconds(pid) - spent:.2f} s of CPU in {seconds:.1f} s;"
        f" {(dirty_kib(pid) - empty) / 1024:.0f} MiB more than empty,"
        f" of which {memory['leased'] >> 20} leased; {memory['charged'] >> 20} charged"
    )
