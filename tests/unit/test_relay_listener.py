"""Visitors meet the cover site and nothing else, and no visitor keeps another one out."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import pytest

from circumvent.memory import Memory
from circumvent.wire.knock import Knock
from circumvent.wire.request_watch import RequestHead
from circumvent_plugins.tls_carrier import TlsCarrier
from tests.unit.local_sockets import break_off, until
from tests.unit.relay_fixture import (
    PAGE,
    RunningRelay,
    dialer,
    is_echoed,
    joined,
    knock_request,
    running_listener,
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


def is_received(relay: RunningRelay, data: bytes) -> bool:
    return joined(relay.site.received) == data


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("request_bytes", ODDITIES)
async def test_the_site_receives_every_byte_and_answers(request_bytes: bytes, *, tls: bool) -> None:
    async with running_listener(tls=tls) as relay:
        reader, writer = await relay.visit()
        writer.write(request_bytes)
        assert await reader.readexactly(len(PAGE)) == PAGE
        assert joined(relay.site.received) == request_bytes
        writer.close()


async def test_half_a_head_is_passed_on_as_it_comes() -> None:
    async with running_listener() as relay:
        _, writer = await relay.visit()
        begun = knock_request()[:-4]
        for at in range(0, len(begun), 50):
            writer.write(begun[at : at + 50])
            await until(partial(is_received, relay, begun[: at + 50]))
        writer.close()


async def test_when_the_site_closes_the_visitor_sees_it() -> None:
    async with running_listener() as relay:
        reader, writer = await relay.visit()
        await until(lambda: bool(relay.site.writers))
        relay.site.writers[0].write(b"bye")
        relay.site.writers[0].close()
        assert await reader.read() == b"bye"
        writer.close()


async def test_when_the_visitor_closes_the_site_sees_it() -> None:
    async with running_listener() as relay:
        _, writer = await relay.visit()
        await until(lambda: bool(relay.site.writers))
        writer.close()
        await until(relay.site.writers[0].is_closing)
        await until(lambda: not relay.listener.visitors)


async def test_a_reset_of_the_site_ends_the_visit() -> None:
    async with running_listener() as relay:
        reader, writer = await relay.visit()
        await until(lambda: bool(relay.site.writers))
        break_off(relay.site.writers[0])
        assert await reader.read() == b""
        writer.close()
        await until(lambda: not relay.listener.visitors)


@pytest.mark.parametrize("request_bytes", [b"x" * 99, b"\r\n\r\n" + b"x" * 200_000])
async def test_a_site_may_answer_before_it_has_read_all(request_bytes: bytes) -> None:
    async with running_listener() as relay:
        reader, writer = await relay.visit()
        await until(lambda: bool(relay.site.writers))
        relay.site.writers[0].write(b"enough")
        await relay.site.writers[0].drain()
        relay.site.writers[0].close()
        writer.write(request_bytes)
        assert await reader.read() == b"enough"
        writer.close()


async def test_a_new_visitor_replaces_the_one_that_idled_longest() -> None:
    async with running_listener(tls=False, max_visitors=2) as relay:
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


async def test_a_carrier_does_not_take_the_place_of_a_visitor() -> None:
    async with running_listener(max_visitors=1) as relay:
        account = Memory(4 << 20).account("client")
        link = await TlsCarrier().connect(relay.entry, dialer(), account)
        await until(lambda: bool(relay.listener.carriers))
        reader, writer = await relay.visit()
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.readexactly(len(PAGE)) == PAGE
        assert await is_echoed(link.stream)
        link.stream.abort()
        writer.close()


async def test_a_visitor_that_never_finishes_tls_is_closed() -> None:
    async with running_listener(handshake_seconds=0.02) as relay:
        reader, writer = await asyncio.open_connection(relay.address.host, relay.address.port)
        writer.write(b"\x16\x03\x01")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_hundreds_of_heads_in_one_packet_delay_no_other_visitor() -> None:
    heads = b" / HTTP/1.1\r\n\r\n" * 250
    async with running_listener(tls=False) as relay:
        seen, right = 0, relay.verifier.admit

        def admit(head: RequestHead, binding: bytes) -> Knock | None:
            nonlocal seen
            seen += 1
            return right(head, binding)

        relay.listener.context.verifier.admit = admit  # type: ignore[method-assign]
        (_, crowding), (reader, writer) = await relay.visit(), await relay.visit()
        writer.write(ODDITIES[0])
        await reader.readexactly(len(PAGE))
        seen = 0
        crowding.write(heads)
        writer.write(ODDITIES[0])  # in the same step: a fast server must get no head start
        await reader.readexactly(len(PAGE))
        assert seen < 250
        await until(lambda: seen > 250)
        for each in (crowding, writer):
            each.close()
