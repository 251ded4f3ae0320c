"""``python -m tests.bench.relay_load``: what a relay holds and spends for many sessions.

All clients are in this process, and use the client's own session code.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from circumvent.api import ServerEntry
from circumvent.layers.tls.client import TlsClient
from circumvent.links.relay import RelayLink, parse_relay_link
from circumvent.memory import Account, Memory
from circumvent.net.descriptors import raise_descriptor_limit
from circumvent.net.dialer import NetDialer
from circumvent.net.sockets import SocketBuffers
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.handshake import send_hello
from circumvent.session.session import Session
from circumvent.testing.steps import read_exactly, write_all
from circumvent.wire.address import Destination
from circumvent.wire.credential import make_credential
from circumvent.wire.hello import ID_SIZE, SECRET_SIZE, Attach, Create, Hello, attach_proof
from circumvent.wire.opening import format_opening
from circumvent_plugins.tls_carrier import TlsCarrier
from tests.bench.measures import spending
from tests.bench.proc import dirty_kib
from tests.peers.relay import RunningRelay, configure, make_relay, running_relay

HOST = "127.0.0.1"
IDLE_SECONDS = 30.0  # PINGs come every 10 to 20
PIECE = 64 * 1024
ROUNDS = 4
AT_ONCE = 50
SMALL = SocketBuffers(send=16 * 1024, receive=64 * 1024)


@dataclass(frozen=True, slots=True)
class Crowd:
    """All clients, and how many carriers each of them has."""

    carriers: int
    link: RelayLink
    dialer: NetDialer
    account: Account

    async def begin(self) -> Session:
        """One client's session, with all its carriers."""
        name, secret = secrets.token_bytes(ID_SIZE), secrets.token_bytes(SECRET_SIZE)
        session = Session(
            self.account, SessionLimits(send=256 * 1024, receive=256 * 1024), is_client=True
        )
        for number in range(1, self.carriers + 1):
            entry = ServerEntry("relay", self.link.host, self.link.port, "", "", self.link)
            pipe = await TlsCarrier().connect(entry, self.dialer, self.account)
            hello: Hello = (
                Create(number, name, secret, make_credential(self.link.token, pipe.binding))
                if number == 1
                else Attach(number, name, attach_proof(secret, name, number, pipe.binding))
            )
            _, leftover = await send_hello(pipe.stream, self.account, hello)
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


async def load_relay(folder: Path, sessions: int, carriers: int) -> None:
    """Let them all in, idle and talk; prints what each costs. Fails when a carrier is lost."""
    raise_descriptor_limit()
    directory = folder / "relay"
    port = make_relay(directory)
    configure(directory, "[limits]", f"sessions = {sessions}")
    with running_relay(directory, port) as relay:
        costs = Costs(relay, sessions, sessions * carriers)
        crowd = Crowd(
            carriers,
            parse_relay_link(relay.link),
            NetDialer(TlsClient(), SMALL),
            Memory(1 << 29).account("crowd"),
        )
        everybody: list[Session] = []
        async with echo() as place:
            with costs.told("set up"):
                for at in range(0, sessions, AT_ONCE):
                    count = min(AT_ONCE, sessions - at)
                    everybody += await asyncio.gather(*(crowd.begin() for _ in range(count)))
            with costs.told("idle"):
                await asyncio.sleep(IDLE_SECONDS)
            with costs.told(f"{sessions * ROUNDS * PIECE >> 20} MiB each way"):
                for at in range(0, sessions, AT_ONCE):
                    group = everybody[at : at + AT_ONCE]
                    await asyncio.gather(*(talk(session, place) for session in group))
            assert all(len(session.carriers) == carriers for session in everybody)
            await asyncio.gather(*(session.aclose() for session in everybody))
        with costs.told("all gone"):
            await asyncio.sleep(1)


class Costs:
    """Measured from outside, and by the relay itself."""

    def __init__(self, relay: RunningRelay, sessions: int, carriers: int) -> None:
        self._relay = relay
        self._sessions = sessions
        self._carriers = carriers
        self._empty = dirty_kib(relay.process.pid)

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Print what was spent inside of the block, and what is held after it."""
        with spending(self._relay.process.pid) as spent:
            yield
        more = dirty_kib(self._relay.process.pid) - self._empty
        status = self._relay.status()
        memory, users = status["memory"], status["users"]
        assert isinstance(memory, dict)
        assert isinstance(users, list)
        print(
            f"{what}: {users[0]['sessions']} sessions, {users[0]['carriers']} carriers;"
            f" {spent.cpu:.2f} s of CPU in {spent.seconds:.1f} s;"
            f" {more / 1024:.0f} MiB dirty more than empty: {more / self._sessions:.1f} KiB for"
            f" each session, {more / self._carriers:.1f} for each carrier;"
            f" {memory['leased'] >> 20} MiB leased, {memory['charged'] >> 20} charged",
            flush=True,
        )


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.relay_load", description=__doc__)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--carriers", type=int, default=3)
    wanted = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(load_relay(Path(name), wanted.sessions, wanted.carriers))


if __name__ == "__main__":
    main(sys.argv[1:])
