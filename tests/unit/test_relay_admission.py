"""A right knock leads to a carrier; a wrong one is a request that the cover site answers."""

from __future__ import annotations

import asyncio
import dataclasses
import os

import pytest

from circumvent.api import ByteStream, HandshakeError, TlsOptions
from circumvent.layers.tls.layer import TlsLayer
from circumvent.layers.websocket import WebSocketLayer
from circumvent.links.relay_access import inside_tls
from circumvent.memory import Memory
from circumvent.testing.steps import take
from circumvent.wire.knock import NONCE_SIZE, Knock, KnockKind, seal_knock
from circumvent_plugins.tls_carrier import TlsCarrier
from tests.unit.local_sockets import until
from tests.unit.relay_fixture import (
    KEY,
    PAGE,
    RunningRelay,
    dialer,
    is_echoed,
    joined,
    knock_request,
    running_listener,
)


async def connect(relay: RunningRelay) -> bytes:
    """Use the tls carrier once; the channel binding that the client saw."""
    account = Memory(4 << 20).account("client")
    link = await TlsCarrier().connect(relay.entry, dialer(), account)
    assert await is_echoed(link.stream)
    await link.stream.aclose()
    return link.binding


async def test_an_invited_client_gets_a_carrier_and_the_site_receives_nothing() -> None:
    async with running_listener() as relay:
        binding = await connect(relay)
        assert relay.bindings == [binding]
        assert joined(relay.site.received) == b""


async def test_a_knock_may_come_in_pieces() -> None:
    async with running_listener(tls=False) as relay:
        reader, writer = await relay.visit()
        for byte in knock_request():
            writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        assert await reader.readuntil(b"\r\n\r\n") > b"HTTP/1.1 101"
        assert not joined(relay.site.received).endswith(b"\r\n\r\n")
        writer.close()


async def test_a_knock_may_follow_another_request() -> None:
    """Web servers and CDNs in front keep their connections to the relay."""
    async with running_listener(tls=False) as relay:
        reader, writer = await relay.visit()
        earlier = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\r\n\r\n"
        writer.write(earlier)
        await reader.readexactly(len(PAGE))
        writer.write(knock_request())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert joined(relay.site.received) == earlier
        writer.close()


@pytest.mark.parametrize(
    "wrong",
    [
        knock_request(key=bytes(16)),
        knock_request(at=10**9 + 16 * 60),
        knock_request(at=10**9 - 16 * 60),
        knock_request(KnockKind.TLS),
        knock_request(KnockKind.UPLOAD),
        knock_request().replace(b"GET ", b"PUT "),
        knock_request().replace(b"Upgrade: websocket", b"Upgrade: somewhere"),
    ],
)
async def test_the_site_answers_a_wrong_knock(wrong: bytes) -> None:
    async with running_listener() as relay:
        reader, writer = await relay.visit()
        writer.write(wrong)
        assert await reader.readexactly(len(PAGE)) == PAGE
        assert joined(relay.site.received) == wrong
        assert relay.bindings == []
        writer.close()


@pytest.mark.parametrize("tls", [True, False])
async def test_the_site_answers_a_replayed_knock(*, tls: bool) -> None:
    async with running_listener(tls=tls) as relay:
        request = knock_request()
        reader, writer = await relay.visit()
        writer.write(request)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.close()
        reader, writer = await relay.visit()
        writer.write(request)
        assert await reader.readexactly(len(PAGE)) == PAGE
        writer.close()


async def test_a_knock_for_one_channel_is_wrong_on_another() -> None:
    async with running_listener() as relay:
        options = TlsOptions("site.test", verify=False, only_tls13=True)
        tcp = await dialer().tcp(relay.address.host, relay.address.port)
        stream = await TlsLayer(options).start(tcp)
        knock = knock_request(KnockKind.TLS, binding=stream.channel_binding())
        reader, writer = await relay.visit()
        writer.write(knock)
        assert await reader.readexactly(len(PAGE)) == PAGE
        writer.close()
        stream.abort()


async def test_a_client_with_another_relays_link_reads_why_it_failed() -> None:
    async with running_listener() as relay:
        relay.link = dataclasses.replace(relay.link, knock_key=bytes(16))
        with pytest.raises(HandshakeError, match="answered with status 200"):
            await connect(relay)


async def test_another_relays_identity_is_refused() -> None:
    async with running_listener() as relay:
        relay.link = dataclasses.replace(relay.link, pins=(bytes(32),))
        with pytest.raises(HandshakeError, match="not the pinned one"):
            await connect(relay)


@pytest.mark.parametrize("tls", [True, False])
async def test_a_websocket_carries_tls_to_the_relays_own_key(*, tls: bool) -> None:
    async with running_listener(tls=tls) as relay:
        stream: ByteStream = await dialer().tcp(relay.address.host, relay.address.port)
        if tls:
            stream = await TlsLayer(TlsOptions("site.test", verify=False)).start(stream)
        cookie = seal_knock(KEY, Knock(KnockKind.WEBSOCKET, 10**9, b"n" * NONCE_SIZE))
        pipe = await WebSocketLayer("site.test", "/", (("Cookie", cookie),)).start(stream)
        options = TlsOptions("site.test", spki_sha256=relay.link.pins, only_tls13=True)
        inner = await TlsLayer(options).start(pipe)
        assert await is_echoed(inner)
        assert relay.bindings == [inner.channel_binding()]
        inner.abort()


async def test_the_inner_tls_accepts_only_the_relays_own_key() -> None:
    """A front may hold the key of the web certificate, which invites pin too."""
    async with running_listener(tls=False) as relay:
        (own,) = relay.link.pins
        for pins, is_good in (((own, bytes(32)), True), ((bytes(32), own), False)):
            link = dataclasses.replace(relay.link, pins=pins)
            tcp = await dialer().tcp(relay.address.host, relay.address.port)
            cookie = seal_knock(KEY, Knock(KnockKind.WEBSOCKET, 10**9, os.urandom(NONCE_SIZE)))
            pipe = await WebSocketLayer("site.test", "/", (("Cookie", cookie),)).start(tcp)
            if is_good:
                inner = await inside_tls(pipe, link)
                assert await is_echoed(inner.stream)
                inner.stream.abort()
            else:
                with pytest.raises(HandshakeError, match="not the pinned one"):
                    await inside_tls(pipe, link)


async def test_the_outer_tls_accepts_the_key_of_the_web_certificate_too() -> None:
    async with running_listener() as relay:
        relay.link = dataclasses.replace(relay.link, pins=(bytes(32), *relay.link.pins))
        await connect(relay)


async def test_old_knock_keys_are_accepted_until_they_are_removed() -> None:
    async with running_listener() as relay:
        relay.verifier.keys = (bytes(16), KEY)
        await connect(relay)
        relay.verifier.keys = (bytes(16),)
        with pytest.raises(HandshakeError):
            await connect(relay)


async def test_a_client_that_does_not_wait_for_the_answer_is_cut_off() -> None:
    async with running_listener() as relay:
        options = TlsOptions("site.test", verify=False, only_tls13=True)
        tcp = await dialer().tcp(relay.address.host, relay.address.port)
        stream = await TlsLayer(options).start(tcp)
        early = knock_request(KnockKind.TLS, binding=stream.channel_binding()) + b"hello"
        take(stream, early)
        await until(lambda: not relay.listener.carriers and not relay.listener.visitors)
        assert relay.bindings == []
        stream.abort()
