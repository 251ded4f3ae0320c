"""Carriers through the web to a whole relay, behind servers that others wrote."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from circumvent.api import Carrier, CarrierPipe, ServerEntry
from circumvent.http.client import http_client
from circumvent.layers.tls.client import TlsClient
from circumvent.links.relay import RelayLink
from circumvent.links.relay_access import outer_tls, web_name, web_place
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.relay.home import RELAY_FILE, RelayHome
from circumvent.relay.relay import Relay
from circumvent.relay.setup import NewRelay, create, make_invite
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.handshake import send_hello
from circumvent.session.session import Session
from circumvent.testing.steps import read_exactly, write_all
from circumvent.wire.address import Destination
from circumvent.wire.credential import make_credential
from circumvent.wire.frames import CloseReason
from circumvent.wire.hello import ID_SIZE, SECRET_SIZE, Create
from circumvent.wire.opening import format_opening
from circumvent_plugins.fronted_carrier import FrontedCarrier
from circumvent_plugins.fronted_carrier.stream import FrontTimings
from circumvent_plugins.websocket_carrier import WebSocketCarrier
from tests.peers.certificates import Certificate, make_certificate
from tests.peers.haproxy import haproxy
from tests.peers.nginx import HOLDS_BACK, SITE, nginx
from tests.peers.process import free_port

HOST = "127.0.0.1"
NAME = "relay.far.test"
BEHIND_A_FRONT = """
[tls]
enabled = false
[web]
address = "{front}"
host = "{name}"
path = "/news/live"
"""
PAGE = b"<h1>news</h1>"
MIB = 1 << 20

Front = Callable[[Path, Certificate, int], AbstractContextManager[int]]


@contextmanager
def behind_nginx(
    folder: Path, certificate: Certificate, server: int, more: str = ""
) -> Iterator[int]:
    """The name connected to leads nowhere; the relay's name leads to the relay."""
    servers = {"front.test": "return 404;", NAME: SITE.format(path="/", port=server, more=more)}
    with nginx(folder, certificate, servers) as port:
        yield port


FRONTS: dict[str, Front | None] = {
    "straight": None,
    "nginx": behind_nginx,
    "haproxy": haproxy,
    "nginx that holds back": partial(behind_nginx, more=HOLDS_BACK),
}
ROUTES: list[tuple[type[Carrier], str]] = [
    *((WebSocketCarrier, front) for front in ("straight", "nginx", "haproxy")),
    *((FrontedCarrier, front) for front in FRONTS),
]


@dataclass(frozen=True, slots=True)
class World:
    """A relay, how its user reaches it, and a server on its side that echoes."""

    link: RelayLink
    dialer: NetDialer
    echo: Destination

    @property
    def entry(self) -> ServerEntry:
        return ServerEntry("relay", self.link.host, self.link.port, "", "", self.link)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@asynccontextmanager
async def world(front: str, folder: Path, certificate: Certificate) -> AsyncIterator[World]:
    directory, server = folder / "relay", free_port()
    with in_front(FRONTS[front], folder, certificate, server) as public:
        home = make_relay(directory, server, public)
        relay, stop, ready = Relay(home), asyncio.Event(), asyncio.Event()
        running = asyncio.ensure_future(relay.run(stop, asyncio.Event(), lambda _: ready.set()))
        async with await asyncio.start_server(echo, HOST, 0) as echoing:
            await ready.wait()
            port: int = echoing.sockets[0].getsockname()[1]
            dialer = NetDialer(TlsClient(str(certificate.authority)))
            yield World(make_invite(home, home.users[0]), dialer, Destination(HOST, port))
            stop.set()
            await running


def in_front(
    front: Front | None, folder: Path, certificate: Certificate, server: int
) -> AbstractContextManager[int]:
    @contextmanager
    def nobody() -> Iterator[int]:
        yield server

    return nobody() if front is None else front(folder, certificate, server)


def make_relay(directory: Path, server: int, public: int) -> RelayHome:
    listen, front = f"{HOST}:{server}", f"{HOST}:{public}"
    create(directory, NewRelay(listen, front, allow_private=True))
    (directory / "site" / "index.html").write_bytes(PAGE)
    if public != server:
        file = directory / RELAY_FILE
        text = file.read_text().replace('["tls", "websocket"]', '["websocket", "fronted"]')
        file.write_text(text + BEHIND_A_FRONT.format(front=front, name=NAME))
    return RelayHome.load(directory)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def begin_session(carrier: CarrierPipe, link: RelayLink, memory: Memory) -> Session:
    account = memory.account("session")
    name, secret = secrets.token_bytes(ID_SIZE), secrets.token_bytes(SECRET_SIZE)
    hello = Create(1, name, secret, make_credential(link.token, carrier.binding))
    _, leftover = await send_hello(carrier.stream, account, hello)
    session = Session(account, SessionLimits(send=MIB, receive=2 * MIB), is_client=True)
    session.attach(1, carrier.stream, 0.05, leftover)
    return session


@pytest.mark.parametrize(
    ("kind", "front"), ROUTES, ids=[f"{kind.name}-{front}" for kind, front in ROUTES]
)
async def test_a_session_goes_through(
    kind: type[Carrier],
    front: str,
    tmp_path: Path,
    certificate: Certificate,
) -> None:
    makes = partial(FrontedCarrier, FrontTimings(answer=1.0)) if kind is FrontedCarrier else kind
    memory = Memory(16 * MIB)
    account = memory.account("carrier")
    data = os.urandom(4 * MIB)
    async with world(front, tmp_path, certificate) as made:
        carrier = await makes().connect(made.entry, made.dialer, account)
        session = await begin_session(carrier, made.link, memory)
        stream = session.open(format_opening(made.echo))
        async with asyncio.TaskGroup() as group:
            group.create_task(write_all(stream, data))
            echoed = group.create_task(read_exactly(stream, len(data)))
        assert echoed.result() == data
        await session.aclose(CloseReason.DONE)
    assert memory.leased == 0


@pytest.mark.parametrize("front", FRONTS)
async def test_a_visitor_without_a_knock_sees_the_site(
    front: str, tmp_path: Path, certificate: Certificate
) -> None:
    account = Memory(MIB).account("visitor")
    async with world(front, tmp_path, certificate) as made:
        place = web_place(made.link)
        async with (
            http_client(made.dialer, account, tls=lambda _: outer_tls(made.link)) as session,
            session.get(f"https://{place}/", headers={"Host": web_name(made.link)}) as response,
        ):
            assert await response.read() == PAGE
