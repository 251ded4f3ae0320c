"""The dialer through tunnels: its streams leave by them, and names are looked up at their end."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from circumvent.api import ByteStream, UnsupportedError
from circumvent.errors import NoTunnelError
from circumvent.http.client import http_client, limited_body
from circumvent.layers.tls.client import TlsClient
from circumvent.tunnels.dialer import TunnelDialer
from circumvent.wire.address import Destination
from tests.conformance.codecs import TlsCodec
from tests.peers.certificates import SERVER_NAME, Certificate
from tests.unit.far_side import FarStream, Node, all_of, answer, nodes
from tests.unit.running_client import RunningClient, running_client

PAGE = b"what only the far side can fetch"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE)


@pytest.fixture
async def node(certificate: Certificate) -> AsyncIterator[Node]:
    async def answer_over_tls(stream: FarStream) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        codec = TlsCodec(context)
        while data := await stream.receive():
            asked = codec.open(data)
            await stream.send(codec.replies() + (codec.seal(ANSWER) if asked else b""))

    async with nodes(1, {"plain.test": answer(ANSWER), SERVER_NAME: answer_over_tls}) as made:
        yield made[0]


async def fetch(client: RunningClient, certificate: Certificate, url: str) -> bytes:
    dialer = TunnelDialer(client.dispatcher.open, TlsClient(str(certificate.authority)))
    account = client.memory.account("fetch")
    async with http_client(dialer, account) as session, session.get(url) as response:
        return b"".join([piece async for piece in limited_body(response, 1000)])


@pytest.mark.parametrize("url", ["http://plain.test/", f"https://{SERVER_NAME}/"])
async def test_a_fetch_goes_through_what_is_up(
    node: Node, tmp_path: Path, certificate: Certificate, url: str
) -> None:
    async with running_client(all_of([node]), tmp_path) as client:
        await client.up(1)
        assert await fetch(client, certificate, url) == PAGE
        await client.free()


async def test_without_a_tunnel_nothing_is_reached(
    certificate: Certificate, tmp_path: Path
) -> None:
    async with running_client([], tmp_path) as client:
        with pytest.raises(NoTunnelError):
            await fetch(client, certificate, "http://plain.test/")


async def open_none(_: Destination) -> ByteStream:
    raise NotImplementedError


async def test_names_are_not_looked_up_here() -> None:
    dialer = TunnelDialer(open_none, TlsClient())
    assert await dialer.resolve("server.test") == ("server.test",)


async def test_there_are_no_datagrams() -> None:
    with pytest.raises(UnsupportedError, match="over TCP"):
        await TunnelDialer(open_none, TlsClient()).udp("192.0.2.1", 53)
