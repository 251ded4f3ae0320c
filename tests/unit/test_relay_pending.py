"""With the knock key and no token a client gets as far as a pending carrier, and no further."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from circumvent.api import CarrierPipe, ServerEntry, TlsOptions
from circumvent.api.streams import ByteStream
from circumvent.layers.exchange import send
from circumvent.layers.tls.layer import TlsLayer
from circumvent.links.relay import RelayLink, format_relay_link
from circumvent.memory import Account, Memory
from circumvent.relay import setup
from circumvent.relay.carriers.pending import COST
from circumvent.relay.home import RelayHome
from circumvent.relay.relay import Relay
from circumvent.session.handshake import send_hello
from circumvent.wire.credential import make_credential
from circumvent.wire.hello import Create
from circumvent.wire.http_carrier import Note, pack_note
from circumvent.wire.knock import Knock, KnockKind, seal_knock
from circumvent.wire.websocket_handshake import ClientUpgrade
from circumvent_plugins.tls_carrier import TlsCarrier
from tests.peers.process import free_port
from tests.unit.local_sockets import until
from tests.unit.relay_fixture import LOOPBACK, dialer

MEMORY = 4 << 20
CROWD = 14  # more than may be pending
KINDS = (KnockKind.WEBSOCKET, KnockKind.DOWNLOAD, KnockKind.UPLOAD)


class World:
    """A running relay, its only user's invite, and memory for clients."""

    def __init__(self, relay: Relay, link: RelayLink) -> None:
        self.relay = relay
        self.link = link
        self.account: Account = Memory(32 << 20).account("clients")

    @property
    def room(self) -> int:
        return self.relay._carriers.pending.room  # noqa: SLF001 - the promise is about what it holds

    @property
    def pending(self) -> int:
        return len(self.relay._carriers.pending.carriers)  # noqa: SLF001

    async def knock(self, kind: KnockKind) -> ByteStream:
        """Knock as a user who was removed does, and send nothing after that."""
        tcp = await dialer().tcp(self.link.host, self.link.port)
        stream = await TlsLayer(TlsOptions("site.test", verify=False)).start(tcp)
        note = pack_note(Note(os.urandom(16), 0)) if kind is not KnockKind.WEBSOCKET else b""
        knock = Knock(kind, int(time.time()), os.urandom(12), note)
        cookie = ("Cookie", seal_knock(self.link.knock_key, knock))
        request = ClientUpgrade("site.test", "/", [cookie]).request
        if kind is KnockKind.UPLOAD:
            request = request.replace(b"GET", b"POST", 1)  # the cookie's Base64 may say GET too
            request = request.replace(b"\r\n", b"\r\nContent-Length: 9\r\n", 1)
        await send(stream, self.account, request)
        return stream

    async def join(self) -> CarrierPipe:
        """Join a session as the user."""
        text = format_relay_link(self.link)
        entry = ServerEntry("relay", self.link.host, self.link.port, "", text, self.link)
        link = await TlsCarrier().connect(entry, dialer(), self.account)
        credential = make_credential(self.link.token, link.binding)
        hello = Create(1, os.urandom(16), os.urandom(32), credential)
        await send_hello(link.stream, self.account, hello)
        return link


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    place = f"{LOOPBACK}:{free_port()}"
    home = setup.create(folder / "relay", setup.NewRelay(place, place))
    file = home.directory / "relay.toml"
    file.write_text(f'memory = "{MEMORY >> 20} MiB"\n' + file.read_text())
    home = RelayHome.load(home.directory)
    relay, stop, ready = Relay(home), asyncio.Event(), asyncio.Event()
    running = asyncio.ensure_future(relay.run(stop, asyncio.Event(), lambda _: ready.set()))
    await ready.wait()
    try:
        yield World(relay, setup.make_invite(home, home.users[0]))
    finally:
        stop.set()
        await running


@pytest.mark.parametrize("kind", KINDS)
async def test_knocks_without_a_token_fill_the_pending_carriers_only(
    tmp_path: Path, kind: KnockKind
) -> None:
    async with world(tmp_path) as here:
        early = await here.join()
        assert here.pending == 0
        crowd: list[ByteStream] = []
        for number in range(CROWD):
            crowd.append(await here.knock(kind))
            await until(lambda: here.relay.status().knocks == number + 2)  # noqa: B023
        assert 0 < here.pending <= here.room < CROWD
        memory = here.relay.status().memory
        assert memory.charged < (here.room + 4) * COST
        late = await here.join()
        (user,) = here.relay.status().users
        assert (user.sessions, user.carriers) == (2, 2)
        for stream in (early.stream, late.stream, *crowd):
            stream.abort()


async def test_an_authenticated_carrier_is_not_pending(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        links = [await here.join() for _ in range(3)]
        assert here.pending == 0
        for link in links:
            link.stream.abort()
