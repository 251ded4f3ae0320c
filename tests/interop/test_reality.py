"""REALITY with mihomo's server: what the borrowed site sees of us, and what the user is told."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from circumvent.api import ByteStream, HandshakeError, Transport
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.reality import RealityLayer, RealityOptions
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.wire.address import Destination
from circumvent.wire.base64url import encode_base64url
from circumvent_plugins.trojan import Trojan
from circumvent_plugins.vless import Vless
from tests.interop.echoing import assert_echoed, echo, serving
from tests.peers.certificates import SERVER_NAME, Certificate
from tests.peers.servers import mihomo_beside, new_endpoint, sing_box_server
from tests.peers.services import (
    HOST,
    SHORT_ID,
    TROJAN,
    TROJAN_REALITY,
    VLESS_REALITY,
    Endpoint,
    Service,
)

MIB = 1 << 20
MAX_TIME_DIFFERENCE = 60_000_000  # microseconds in this mihomo, by which the clocks may differ
HOUR = 3600


class Site:
    """The borrowed web site: it counts the bytes of requests, and hears those that say goodbye."""

    def __init__(self, certificate: Certificate) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.load_cert_chain(certificate.chain, certificate.key)
        self.context.set_ecdh_curve("X25519")
        self.asked = 0
        self.heard_goodbye = asyncio.Event()

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(incoming, outgoing, server_side=True)
        while data := await reader.read(1 << 16):
            incoming.write(data)
            self._answer(tls)
            writer.write(outgoing.read())
        writer.close()

    def _answer(self, tls: ssl.SSLObject) -> None:
        try:
            tls.do_handshake()
            while piece := tls.read(1 << 16):
                self.asked += len(piece)
            self.heard_goodbye.set()
        except ssl.SSLError:  # more must come first, or the visitor refuses our certificate
            return


class Place:
    """A server, and what a link to it says."""

    def __init__(self, endpoint: Endpoint, site: Site) -> None:
        is_vless = endpoint.service.transport == "vless"
        self.transport: Transport = Vless() if is_vless else Trojan()
        self.endpoint, self.site = endpoint, site

    async def open(self, destination: Destination, changes: str = "") -> ByteStream:
        """A stream; of what a link says twice the first counts, and ``changes`` come first."""
        entry = self.transport.parse(self.endpoint.link.replace("?", f"?{changes}&"))
        account = Memory(8 << 20).account("test")
        tunnel = await self.transport.connect(entry, NetDialer(TlsClient()), account)
        return await tunnel.open(destination)


@pytest.fixture(params=[VLESS_REALITY, TROJAN_REALITY], ids=["vless", "trojan"])
def service(request: pytest.FixtureRequest) -> Service:
    chosen: Service = request.param
    return chosen


@pytest.fixture
async def place(
    service: Service, folder: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.authority))
    site, endpoint = Site(certificate), new_endpoint(service, certificate)
    limit = {"max-time-difference": MAX_TIME_DIFFERENCE}
    async with serving(site.visit) as port:
        with mihomo_beside(port, endpoint, folder, **limit) as server:
            yield Place(server.endpoint, site)


async def test_a_site_with_a_plain_key_share_can_be_borrowed(place: Place) -> None:
    await assert_serves(place)


async def test_a_site_with_a_hybrid_key_share_can_be_borrowed(
    service: Service, folder: Path, certificate: Certificate
) -> None:
    """As most have it: sing-box, a program in Go, takes ML-KEM where it is offered."""
    with (
        sing_box_server(TROJAN, folder, certificate) as site,
        mihomo_beside(site.endpoint.port, new_endpoint(service, certificate), folder) as server,
    ):
        await assert_serves(Place(server.endpoint, Site(certificate)))


async def assert_serves(place: Place) -> None:
    async with serving(echo) as port:
        stream = await place.open(Destination(HOST, port))
        await assert_echoed(stream, MIB)
        await stream.aclose()


def other_key() -> str:
    return encode_base64url(X25519PrivateKey.generate().public_key().public_bytes_raw())


@pytest.mark.parametrize(
    "changes", [f"pbk={other_key()}", "sid=ffffffffffffffff", "sid=00"], ids=["key", "id", "empty"]
)
async def test_who_is_not_recognized_sends_the_site_a_goodbye_and_no_request(
    place: Place, changes: str
) -> None:
    await assert_refused_politely(place.site, place.open(Destination(HOST, 9), changes))


@pytest.mark.parametrize("late", [HOUR, -HOUR])
async def test_a_wrong_clock_is_named(place: Place, late: int) -> None:
    endpoint = place.endpoint
    public_key = endpoint.reality_key.public_key().public_bytes_raw()
    options = RealityOptions(SERVER_NAME, public_key, bytes.fromhex(SHORT_ID))
    layer = RealityLayer(options, clock=lambda: time.time() - late)
    dial = partial(NetDialer(TlsClient()).tcp, HOST, endpoint.port)
    await assert_refused_politely(place.site, layer.over(dial)())


async def assert_refused_politely(site: Site, opening: Awaitable[ByteStream]) -> None:
    site.heard_goodbye.clear()
    with pytest.raises(HandshakeError, match=r"public key, the short id and the clock"):
        await opening
    await site.heard_goodbye.wait()
    assert not site.asked


async def test_another_name_than_the_sites_is_refused(place: Place) -> None:
    with pytest.raises(HandshakeError, match="for another name"):
        await place.open(Destination(HOST, 9), "sni=other.test")
    assert not place.site.asked


async def test_a_server_without_the_mldsa_key_of_the_link_is_refused(place: Place) -> None:
    public = MLDSA65PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(HandshakeError, match="ML-DSA"):
        await place.open(Destination(HOST, 9), f"pqv={encode_base64url(public)}")
