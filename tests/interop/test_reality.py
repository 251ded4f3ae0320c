"""REALITY with mihomo's server: bytes of every size, and what happens to those it does not know."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from circumvent.api import ByteStream, HandshakeError, Transport
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.wire.address import Destination
from circumvent.wire.base64url import encode_base64url
from circumvent_plugins.trojan import Trojan
from circumvent_plugins.vless import Vless
from tests.interop.echoing import SIZES, assert_echoed
from tests.peers.certificates import SERVER_NAME, make_certificate
from tests.peers.mihomo import HOST, mihomo_server

USER = str(uuid.uuid4())
SHORT_ID = "0123456789abcdef"


class Site:
    """The borrowed web site; it counts the bytes of requests that reach it."""

    def __init__(self) -> None:
        self.asked = 0

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                self.asked += len(data)
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    visit: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    server = await asyncio.start_server(visit, HOST, 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 18):
        writer.write(data)
        await writer.drain()
    writer.close()


class Place:
    """A server, and what a link to it says."""

    def __init__(self, kind: str, port: int, key: bytes, site: Site) -> None:
        self.transport: Transport = Vless() if kind == "vless" else Trojan()
        self.kind, self.port, self.key, self.site = kind, port, key, site

    async def open(self, destination: Destination, **changes: str) -> ByteStream:
        query = {"pbk": encode_base64url(self.key), "sid": SHORT_ID, "sni": SERVER_NAME, **changes}
        words = "&".join(f"{key}={value}" for key, value in query.items())
        link = f"{self.kind}://{USER}@{HOST}:{self.port}?security=reality&{words}"
        entry = self.transport.parse(link)
        account = Memory(8 << 20).account("test")
        tunnel = await self.transport.connect(entry, NetDialer(TlsClient()), account)
        return await tunnel.open(destination)


@pytest.fixture(params=["vless", "trojan"])
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
async def place(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate.chain, certificate.key)
    key, site = X25519PrivateKey.generate(), Site()
    user = {"username": "u", "uuid" if kind == "vless" else "password": USER}
    async with serving(site.visit, context) as site_port:
        reality: dict[str, object] = {
            "dest": f"{HOST}:{site_port}",
            "private-key": encode_base64url(key.private_bytes_raw()),
            "short-id": [SHORT_ID],
            "server-names": [SERVER_NAME],
        }
        security: dict[str, object] = {"reality-config": reality}
        with mihomo_server(kind, user, security, tmp_path) as port:
            yield Place(kind, port, key.public_key().public_bytes_raw(), site)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("size", SIZES)
async def test_bytes_of_every_size_arrive_whole_both_ways(place: Place, size: int) -> None:
    async with serving(echo) as port:
        stream = await place.open(Destination(HOST, port))
        await assert_echoed(stream, size)
        await stream.aclose()


@pytest.mark.parametrize(
    "changes",
    [
        {"pbk": encode_base64url(X25519PrivateKey.generate().public_key().public_bytes_raw())},
        {"sid": "ffffffffffffffff"},
    ],
    ids=["key", "short id"],
)
async def test_who_is_not_recognized_sends_the_site_no_request(
    place: Place, changes: dict[str, str]
) -> None:
    with pytest.raises(HandshakeError, match="did not recognize us"):
        await place.open(Destination(HOST, 9), **changes)
    assert not place.site.asked


async def test_another_name_than_the_sites_is_refused(place: Place) -> None:
    with pytest.raises(HandshakeError, match="for another name"):
        await place.open(Destination(HOST, 9), sni="other.test")
    assert not place.site.asked
