"""Strangers meet the cover site and nothing else; who was invited meets the relay."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from functools import partial

import pytest

from circumvent.api import ByteStream, HandshakeError, TlsOptions
from circumvent.layers.tls.layer import TlsLayer
from circumvent.layers.websocket import WebSocketLayer
from circumvent.links.relay_access import inside_tls
from circumvent.memory import Memory
from circumvent.relay import connection as guest
from circumvent.wire.knock import NONCE_SIZE, Knock, KnockKind, seal_knock
from circumvent.wire.request_watch import RequestHead
from circumvent_plugins.tls_carrier import TlsCarrier
from tests.unit.local_sockets import break_off, until
from tests.unit.relay_fixture import (
    KEY,
    PAGE,
    RunningRelay,
    dialer,
    house,
    identity,
    is_echoed,
    joined,
    knock_request,
)

ODDITIES = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x00\x01\x02\x03\r\n\r\n",
    b"GET / HTTP/1.1\nHost: bare line feeds\n\n" + b"x" * 20000 + b"\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


async def connect(relay: RunningRelay) -> bytes:
    """Through the tls carrier; the binding that the client saw."""
    account = Memory(4 << 20).account("client")
    link = await TlsCarrier().connect(relay.entry, dialer(), account)
    assert await is_echoed(link.stream)
    await link.stream.aclose()
    return link.binding


def is_heard(relay: RunningRelay, data: bytes) -> bool:
    return joined(relay.site.heard) == data


async def test_an_invited_client_is_let_in_and_the_site_hears_nothing_of_it() -> None:
    async with house() as relay:
        binding = await connect(relay)
        assert relay.bindings == [binding]
        assert joined(relay.site.heard) == b""


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("request_bytes", ODDITIES)
async def test_the_site_hears_every_byte_and_answers(request_bytes: bytes, *, tls: bool) -> None:
    async with house(tls=tls) as relay:
        reader, writer = await relay.visit()
        writer.write(request_bytes)
        assert await reader.readexactly(len(PAGE)) == PAGE
        assert joined(relay.site.heard) == request_bytes
        writer.close()


async def test_half_a_head_passes_as_it_comes() -> None:
    async with house() as relay:
        _, writer = await relay.visit()
        begun = knock_request()[:-4]
        for at in range(0, len(begun), 50):
            writer.write(begun[at : at + 50])
            await until(partial(is_heard, relay, begun[: at + 50]))
        writer.close()


async def test_a_knock_in_pieces_is_right_when_it_is_complete() -> None:
    async with house(tls=False) as relay:
        reader, writer = await relay.visit()
        for byte in knock_request():
            writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        assert await reader.readuntil(b"\r\n\r\n") > b"HTTP/1.1 101"
        assert not joined(relay.site.heard).endswith(b"\r\n\r\n")
        writer.close()


async def test_a_knock_on_a_kept_connection_is_right_too() -> None:
    """As web servers and CDNs do that keep connections to what is behind them."""
    async with house(tls=False) as relay:
        reader, writer = await relay.visit()
        earlier = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\r\n\r\n"
        writer.write(earlier)
        await reader.readexactly(len(PAGE))
        writer.write(knock_request())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert joined(relay.site.heard) == earlier
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
async def test_a_wrong_knock_is_a_request_like_any_other(wrong: bytes) -> None:
    async with house() as relay:
        reader, writer = await relay.visit()
        writer.write(wrong)
        assert await reader.readexactly(len(PAGE)) == PAGE
        assert joined(relay.site.heard) == wrong
        assert relay.bindings == []
        writer.close()


@pytest.mark.parametrize("tls", [True, False])
async def test_a_recorded_knock_is_worth_nothing(*, tls: bool) -> None:
    async with house(tls=tls) as relay:
        request = knock_request()
        reader, writer = await relay.visit()
        writer.write(request)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.close()
        reader, writer = await relay.visit()
        writer.write(request)
        assert await reader.readexactly(len(PAGE)) == PAGE
        writer.close()


async def test_a_knock_for_one_channel_is_worth_nothing_on_another() -> None:
    async with house() as relay:
        options = TlsOptions("site.test", verify=False, only_tls13=True)
        tcp = await dialer().tcp(relay.address.host, relay.address.port)
        stream = await TlsLayer(options).start(tcp)
        elsewhere = knock_request(KnockKind.TLS, binding=stream.channel_binding())
        reader, writer = await relay.visit()
        writer.write(elsewhere)
        assert await reader.readexactly(len(PAGE)) == PAGE
        writer.close()
        stream.abort()


async def test_a_stranger_with_a_link_of_another_relay_reads_why() -> None:
    async with house() as relay:
        relay.link = dataclasses.replace(relay.link, knock_key=bytes(16))
        with pytest.raises(HandshakeError, match="answered with status 200"):
            await connect(relay)


async def test_another_relays_key_is_no_key() -> None:
    async with house() as relay:
        relay.link = dataclasses.replace(relay.link, pins=(bytes(32),))
        with pytest.raises(HandshakeError, match="not the pinned one"):
            await connect(relay)


@pytest.mark.parametrize("tls", [True, False])
async def test_a_websocket_carries_tls_to_the_relays_own_key(*, tls: bool) -> None:
    async with house(tls=tls) as relay:
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


async def test_inside_only_the_relays_own_key_counts() -> None:
    """A front may hold the key of the web certificate, which invites pin as well."""
    async with house(tls=False) as relay:
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


async def test_outside_the_key_of_the_web_certificate_counts_too() -> None:
    async with house() as relay:
        relay.link = dataclasses.replace(relay.link, pins=(bytes(32), *relay.link.pins))
        await connect(relay)


async def test_old_keys_count_until_they_are_replaced() -> None:
    async with house() as relay:
        relay.doorkeeper.keys = (bytes(16), KEY)
        await connect(relay)
        relay.doorkeeper.keys = (bytes(16),)
        with pytest.raises(HandshakeError):
            await connect(relay)


async def test_the_site_closes_the_visitors_connection() -> None:
    async with house() as relay:
        reader, writer = await relay.visit()
        await until(lambda: bool(relay.site.writers))
        relay.site.writers[0].write(b"bye")
        relay.site.writers[0].close()
        assert await reader.read() == b"bye"
        writer.close()


async def test_the_visitor_leaves_and_the_site_hears_it() -> None:
    async with house() as relay:
        _, writer = await relay.visit()
        await until(lambda: bool(relay.site.writers))
        writer.close()
        await until(relay.site.writers[0].is_closing)
        await until(lambda: not relay.front.visitors)


async def test_a_site_that_breaks_off_has_ended() -> None:
    async with house() as relay:
        reader, writer = await relay.visit()
        await until(lambda: bool(relay.site.writers))
        break_off(relay.site.writers[0])
        assert await reader.read() == b""
        writer.close()
        await until(lambda: not relay.front.visitors)


@pytest.mark.parametrize("request_bytes", [b"x" * 99, b"\r\n\r\n" + b"x" * 200_000])
async def test_a_site_may_answer_before_it_has_heard_all(request_bytes: bytes) -> None:
    async with house() as relay:
        reader, writer = await relay.visit()
        await until(lambda: bool(relay.site.writers))
        relay.site.writers[0].write(b"enough")
        await relay.site.writers[0].drain()
        relay.site.writers[0].close()
        writer.write(request_bytes)
        assert await reader.read() == b"enough"
        writer.close()


async def test_one_visitor_too_many_replaces_the_idlest() -> None:
    async with house(tls=False, max_visitors=2) as relay:
        idle, idle_writer = await relay.visit()
        await until(lambda: len(relay.site.writers) == 1)
        busy, writer = await relay.visit()
        await until(lambda: len(relay.site.writers) == 2)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await busy.readexactly(len(PAGE))
        _, third = await relay.visit()
        with contextlib.suppress(ConnectionResetError):
            assert await idle.read() == b""
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await busy.readexactly(len(PAGE)) == PAGE
        for each in (writer, third, idle_writer):
            each.close()


async def test_carriers_take_no_visitors_place() -> None:
    async with house(max_visitors=1) as relay:
        account = Memory(4 << 20).account("client")
        link = await TlsCarrier().connect(relay.entry, dialer(), account)
        await until(lambda: bool(relay.front.carriers))
        reader, writer = await relay.visit()
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.readexactly(len(PAGE)) == PAGE
        assert await is_echoed(link.stream)
        link.stream.abort()
        writer.close()


async def test_who_never_finishes_tls_is_seen_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "HANDSHAKE_SECONDS", 0.05)
    async with house() as relay:
        reader, writer = await asyncio.open_connection(relay.address.host, relay.address.port)
        writer.write(b"\x16\x03\x01")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_a_client_that_does_not_wait_for_the_answer_is_cut() -> None:
    async with house() as relay:
        options = TlsOptions("site.test", verify=False, only_tls13=True)
        tcp = await dialer().tcp(relay.address.host, relay.address.port)
        stream = await TlsLayer(options).start(tcp)
        hasty = knock_request(KnockKind.TLS, binding=stream.channel_binding()) + b"hello"
        block = memoryview(bytearray(hasty))
        stream.write(block, 0, len(block))
        await until(lambda: not relay.front.carriers and not relay.front.visitors)
        assert relay.bindings == []
        stream.abort()


def test_a_relays_certificate_is_its_own() -> None:
    assert identity()[0].read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")


async def test_who_puts_hundreds_of_heads_into_one_packet_keeps_nobody_waiting() -> None:
    heads = b" / HTTP/1.1\r\n\r\n" * 250
    async with house(tls=False) as relay:
        seen, right = 0, relay.doorkeeper.admit

        def admit(head: RequestHead, binding: bytes) -> Knock | None:
            nonlocal seen
            seen += 1
            return right(head, binding)

        relay.front.house.doorkeeper.admit = admit  # type: ignore[method-assign]
        (_, stranger), (reader, writer) = await relay.visit(), await relay.visit()
        writer.write(ODDITIES[0])
        await reader.readexactly(len(PAGE))
        seen = 0
        stranger.write(heads)
        await until(lambda: seen > 0)
        writer.write(ODDITIES[0])
        await reader.readexactly(len(PAGE))
        assert seen < 250
        for each in (stranger, writer):
            each.close()
