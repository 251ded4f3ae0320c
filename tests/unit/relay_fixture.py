"""A relay's listener over a cover site that records every byte, and clients with an invite."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from circumvent.api import ByteStream, ServerEntry
from circumvent.layers.tls.client import TlsClient
from circumvent.links.relay import RelayLink, format_relay_link
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.net.sockets import SocketBuffers
from circumvent.relay import keys
from circumvent.relay.admission import KnockedConnection
from circumvent.relay.carriers.pipes import open_carrier
from circumvent.relay.connection import RelayContext
from circumvent.relay.cover.site import site_at
from circumvent.relay.knocks import KnockVerifier
from circumvent.relay.listener import RelayListener, RelayListenerOptions
from circumvent.testing.steps import read_exactly, write_all
from circumvent.wire.address import Destination
from circumvent.wire.knock import NONCE_SIZE, Knock, KnockKind, seal_knock
from circumvent.wire.websocket_handshake import ClientUpgrade

KEY, TOKEN = bytes(range(16)), bytes(range(16, 32))
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOOPBACK = "127.0.0.1"
WORD = b"welcome"


@cache
def identity() -> tuple[Path, Path]:
    """Certificate and key, made once."""
    folder = Path(mkdtemp(prefix="circumvent-test-"))
    secret, certificate = keys.make_identity(LOOPBACK)
    files = folder / "identity.pem", folder / "identity.key"
    for file, content in zip(files, (certificate, secret), strict=True):
        file.write_bytes(content)
    return files


@dataclass(slots=True)
class Site:
    """Answers every complete head with a page; ``received`` is what came on each connection."""

    received: list[bytearray] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = bytearray()
        self.received.append(received)
        self.writers.append(writer)
        try:
            while data := await reader.read(65536):
                received += data
                if received.endswith(b"\r\n\r\n"):
                    writer.write(PAGE)
        except ConnectionError:
            pass
        finally:
            writer.close()


@dataclass(slots=True)
class RunningRelay:
    """``bindings`` are the channel bindings of the carriers that were opened."""

    listener: RelayListener
    address: Destination
    site: Site
    memory: Memory
    verifier: KnockVerifier
    link: RelayLink
    bindings: list[bytes] = field(default_factory=list)

    @property
    def entry(self) -> ServerEntry:
        link = self.link
        return ServerEntry("relay", link.host, link.port, "", format_relay_link(link), link)

    async def visit(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect as a browser does, without verifying the certificate."""
        return await asyncio.open_connection(
            self.address.host, self.address.port, ssl=unverified() if self.has_tls else None
        )

    @property
    def has_tls(self) -> bool:
        return self.listener.context.tls is not None


def unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def running_listener(
    *, tls: bool = True, max_visitors: int = 100, handshake_seconds: float = 60.0
) -> AsyncIterator[RunningRelay]:
    """A listener whose clock stands at 1e9; its carriers echo. At the end no memory is in use."""
    site = Site()
    memory = Memory(8 << 20, poison=True)
    account = memory.account("relay")
    verifier = KnockVerifier((KEY,), now=lambda: 1e9)
    web = keys.web_context(*identity()) if tls else None
    inner = keys.inner_context(*identity())
    async with await asyncio.start_server(site.serve, LOOPBACK, 0) as server:
        place = Destination(LOOPBACK, server.sockets[0].getsockname()[1])

        async def serve_knocked(knocked: KnockedConnection) -> None:
            async with open_carrier(knocked, inner, account) as carrier:
                running.bindings.append(carrier.binding)
                await echo(carrier.stream)

        site_there = site_at(place, SocketBuffers())
        context = RelayContext(site_there, web, verifier, account, handshake_seconds)
        options = RelayListenerOptions(Destination(LOOPBACK, 0), max_visitors)
        listener = RelayListener(options, context, account, serve_knocked)
        address = listener.open()
        link = RelayLink(address.host, address.port, KEY, TOKEN, (keys.pin(identity()[0]),))
        running = RunningRelay(listener, address, site, memory, verifier, link)
        try:
            yield running
        finally:
            await listener.aclose()
            for writer in site.writers:
                writer.transport.abort()
    assert memory.leased == memory.charged == 0


async def echo(stream: ByteStream) -> None:
    await write_all(stream, await read_exactly(stream, len(WORD)))
    await stream.aclose()


async def is_echoed(stream: ByteStream) -> bool:
    await write_all(stream, WORD)
    return await read_exactly(stream, len(WORD)) == WORD


def dialer() -> NetDialer:
    return NetDialer(TlsClient())


def knock_request(
    kind: KnockKind = KnockKind.WEBSOCKET,
    *,
    key: bytes = KEY,
    at: int = 10**9,
    binding: bytes = b"",
) -> bytes:
    cookie = seal_knock(key, Knock(kind, at, os.urandom(NONCE_SIZE)), binding)
    return ClientUpgrade("site.test", "/", [("Cookie", cookie)]).request


def joined(parts: Sequence[bytearray]) -> bytes:
    return b"".join(map(bytes, parts))
