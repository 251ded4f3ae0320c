"""Every stream keeps the promises of ByteStream."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import cache
from pathlib import Path

import pytest

from circumvent.api import HeaderStream, LayerStream, TlsEngine, TlsOptions
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.openssl import OpenSslClient, accept_tls
from circumvent.layers.websocket import WebSocketStream
from circumvent.memory import Memory
from circumvent.net import readiness
from circumvent.net.replay import ReplayStream
from circumvent.net.tcp import TcpStream
from circumvent.testing.byte_stream import AnnouncedEndContract, ByteStreamContract, RecordContract
from circumvent.testing.far_end import Codec, FarEnd, connected
from circumvent.testing.steps import Pair
from circumvent_plugins.shadowsocks import AeadLayer
from circumvent_plugins.shadowsocks.ciphers import CIPHERS, master_key
from circumvent_plugins.vless.response import ResponseStream
from tests.conformance.codecs import (
    HeadedCodec,
    NestedCodec,
    ShadowsocksCodec,
    TlsCodec,
    WebSocketCodec,
    WithinCodec,
    password_key,
)
from tests.peers.certificates import SERVER_NAME, Certificate

Make = Callable[[socket.socket, socket.socket, Certificate], Coroutine[None, None, Pair]]
SMALL = 32 * 1024
HEADER = b"a request of some length"
RESPONSE = b"\x00\x03add"
PASSWORD = "a password"
RECEIVE_BUFFER = 256 * 1024


@cache
def trusting(authority: Path) -> TlsClient:
    """Made once, as is ``server_context``: to read a file takes longer than most of the tests."""
    return TlsClient(str(authority))


async def tcp(near: socket.socket, far: socket.socket, _: Certificate) -> Pair:
    return Pair(TcpStream(near), FarEnd(far, Codec()))


@cache
def by_openssl(authority: Path) -> OpenSslClient:
    """What serves where a server speaks no TLS 1.3."""
    return OpenSslClient(str(authority))


class LooksFirst(ReplayStream):
    """Reads only what it has looked at, so that all of it is held for a moment."""

    def read_into(self, buffer: memoryview) -> int | None:
        return super().read_into(buffer) if self.peek_into(buffer) else 0 if self.ended else None


async def replayed(near: socket.socket, far: socket.socket, _: Certificate) -> Pair:
    account = Memory(4 << 20, poison=True).account("client")
    return Pair(LooksFirst(LayerStream(TcpStream(near)), account), FarEnd(far, Codec()))


def tls(
    below: Make,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    engine: Callable[[Path], TlsEngine] = trusting,
) -> Make:
    """A client's TLS, on a socket or inside another stream."""

    async def make(near: socket.socket, far: socket.socket, certificate: Certificate) -> Pair:
        context = server_context(certificate, version)
        client = engine(certificate.authority)
        client.forget()  # what another test left: each shakes hands in full
        pair = await below(near, far, certificate)
        peer = FarEnd(far, NestedCodec(TlsCodec(context), pair.far.codec))
        async with asyncio.TaskGroup() as group:
            group.create_task(peer.shake_hands())
            stream = await client.start(pair.near, TlsOptions(SERVER_NAME))
        return Pair(stream, peer)

    return make


def accepted_tls(below: Make) -> Make:
    """The server's side of TLS, on a socket or inside another stream."""

    async def make(near: socket.socket, far: socket.socket, certificate: Certificate) -> Pair:
        pair = await below(near, far, certificate)
        peer = FarEnd(
            far, NestedCodec(TlsCodec(client_context(certificate), SERVER_NAME), pair.far.codec)
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(peer.shake_hands())
            stream = await accept_tls(pair.near, server_context(certificate))
        return Pair(stream, peer)

    return make


@cache
def server_context(
    certificate: Certificate, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(certificate.chain, certificate.key)
    return context


@cache
def client_context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate.authority)
    return context


def websocket(below: Make, *, is_client: bool) -> Make:
    """One end of a WebSocket after its handshake."""

    async def make(near: socket.socket, far: socket.socket, certificate: Certificate) -> Pair:
        pair = await below(near, far, certificate)
        codec = NestedCodec(WebSocketCodec(is_client=not is_client), pair.far.codec)
        return Pair(WebSocketStream(pair.near, is_client=is_client), FarEnd(far, codec))

    return make


def shadowsocks(method: str, below: Make = tcp) -> Make:
    async def make(near: socket.socket, far: socket.socket, certificate: Certificate) -> Pair:
        pair = await below(near, far, certificate)
        cipher = CIPHERS[method]
        aead = AeadLayer(
            cipher, master_key(PASSWORD, cipher.key_size), Memory(1 << 20).account("test")
        )
        codec = ShadowsocksCodec(method, password_key(PASSWORD.encode(), cipher.key_size))
        return Pair(await aead.start(pair.near), FarEnd(far, WithinCodec(codec, pair.far.codec)))

    return make


def header(below: Make) -> Make:
    async def make(near: socket.socket, far: socket.socket, certificate: Certificate) -> Pair:
        pair = await below(near, far, certificate)
        pair.far.codec = HeadedCodec(pair.far.codec, request=HEADER)
        return Pair(HeaderStream(pair.near, HEADER), pair.far)

    return make


def vless(below: Make) -> Make:
    async def make(near: socket.socket, far: socket.socket, certificate: Certificate) -> Pair:
        pair = await below(near, far, certificate)
        pair.far.codec = HeadedCodec(pair.far.codec, response=RESPONSE)
        return Pair(ResponseStream(pair.near), pair.far)

    return make


def layer(below: Make) -> Make:
    async def make(near: socket.socket, far: socket.socket, certificate: Certificate) -> Pair:
        pair = await below(near, far, certificate)
        return Pair(LayerStream(pair.near), pair.far)

    return make


TLS_12, TLS_13 = tls(tcp, ssl.TLSVersion.TLSv1_2, by_openssl), tls(tcp)
IN_MEMORY = layer(tcp)  # no plain TCP connection any more: TLS works in memory
AES_128 = "aes-128-gcm"
AES = shadowsocks(AES_128)
# TLS 1.3 on a socket and Shadowsocks with AES-128 are in test_plugin_contracts, as layers.
STREAMS = {
    "tcp": tcp,
    "tls 1.2": TLS_12,
    **{f"shadowsocks {method}": shadowsocks(method) for method in CIPHERS if method != AES_128},
    "shadowsocks over a layer": shadowsocks("aes-128-gcm", layer(tcp)),
    "shadowsocks over websocket": shadowsocks("aes-128-gcm", websocket(tcp, is_client=True)),
    "shadowsocks over tls": shadowsocks("aes-256-gcm", TLS_13),
    "header over tcp": header(tcp),
    "header over tls": header(TLS_13),
    "header over shadowsocks": header(AES),
    "vless response over tcp": vless(tcp),
    "vless response over tls": vless(TLS_13),
    "layer": layer(tcp),
    "tls 1.2 in memory": tls(IN_MEMORY, ssl.TLSVersion.TLSv1_2, by_openssl),
    "tls 1.3 in memory": tls(IN_MEMORY),
    "tls over shadowsocks": tls(AES),
    "websocket": websocket(tcp, is_client=True),
    "tls over websocket over tls": tls(websocket(TLS_13, is_client=True)),
    "accepted tls": accepted_tls(tcp),
    "accepted websocket": websocket(tcp, is_client=False),
    "replayed": replayed,
    "accepted tls over websocket": accepted_tls(websocket(tcp, is_client=False)),
}
RECORDS = (
    "shadowsocks over a layer",
    "header over shadowsocks",
)
ANNOUNCED_ENDS = (
    "tls 1.2",
    "vless response over tls",
    "tls 1.3 in memory",
    "tls over shadowsocks",
    "websocket",
    "shadowsocks over websocket",
    "shadowsocks over tls",
    "tls over websocket over tls",
    "accepted websocket",
)
PORTABLE = {
    "tcp": tcp,
    "tls 1.3": TLS_13,
    "tls over tls": tls(TLS_13),
    "shadowsocks aes-128-gcm": AES,
}


async def make_pair(make: Make, certificate: Certificate) -> AsyncIterator[Pair]:
    near, far = connected(small=SMALL, receive=RECEIVE_BUFFER)
    pair = await make(near, far, certificate)
    yield pair
    pair.near.abort()
    pair.far.close()


class TestStreams(ByteStreamContract):
    """Over edge-triggered readiness where the system has it."""

    @pytest.fixture(params=STREAMS.values(), ids=list(STREAMS))
    async def pair(
        self, request: pytest.FixtureRequest, certificate: Certificate
    ) -> AsyncIterator[Pair]:
        async for pair in make_pair(request.param, certificate):
            yield pair


class TestRecords(RecordContract):
    """What says nothing at its end, so that between two records a cut looks like one."""

    @pytest.fixture(params=RECORDS)
    async def pair(
        self, request: pytest.FixtureRequest, certificate: Certificate
    ) -> AsyncIterator[Pair]:
        async for pair in make_pair(STREAMS[request.param], certificate):
            yield pair


class TestAnnouncedEnds(AnnouncedEndContract):
    """What can tell every cut."""

    @pytest.fixture(params=ANNOUNCED_ENDS)
    async def pair(
        self, request: pytest.FixtureRequest, certificate: Certificate
    ) -> AsyncIterator[Pair]:
        async for pair in make_pair(STREAMS[request.param], certificate):
            yield pair


class TestPortableStreams(ByteStreamContract):
    """Over the loop's own level-triggered readiness, as on other systems."""

    @pytest.fixture(params=PORTABLE.values(), ids=list(PORTABLE))
    async def pair(
        self,
        request: pytest.FixtureRequest,
        certificate: Certificate,
        monkeypatch: pytest.MonkeyPatch,
    ) -> AsyncIterator[Pair]:
        monkeypatch.setattr(readiness, "_EDGES", 0)
        async for pair in make_pair(request.param, certificate):
            yield pair
