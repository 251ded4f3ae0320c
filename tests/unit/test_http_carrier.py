"""A stream made of HTTP requests: both ends, and what fronts do to requests."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from circumvent.api import Account, ByteStream, StreamResetError
from circumvent.memory import Memory
from circumvent.relay.carriers.http_requests import HttpTimings
from circumvent.testing.steps import read_all, read_exactly, write_all
from circumvent_plugins.fronted_carrier.stream import WINDOW, FrontedStream
from tests.peers.certificates import Certificate
from tests.unit.http_relay import HttpRelay, http_relay, link_to, open_stream

SIZE = 600_000  # more than the window of an upload, and two short downloads


@dataclass
class Carrier:
    near: FrontedStream
    far: ByteStream
    relay: HttpRelay


@pytest.fixture
def account() -> Account:
    return Memory(1 << 20).account("test")


@pytest.fixture(params=["streaming", "short"])
async def carrier(
    request: pytest.FixtureRequest, certificate: Certificate, account: Account
) -> AsyncIterator[Carrier]:
    async with http_relay(certificate) as (relay, port):
        is_short = request.param == "short"
        near = open_stream(link_to(port, certificate), account, is_short=is_short)
        await near.opened()
        yield Carrier(near, await relay.streams.get(), relay)
        near.abort()
        await near.closed()
    assert account.leased == 0


async def test_requests_look_like_those_of_a_script_in_chrome(carrier: Carrier) -> None:
    await write_all(carrier.near, b"x")
    assert await read_exactly(carrier.far, 1) == b"x"
    seen = dict(zip(carrier.relay.requests, carrier.relay.heads, strict=True))
    names = {first[:3]: [name for name, _ in head] for first, head in seen.items()}
    rest = ["Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Referer"]
    rest += ["Accept-Encoding", "Accept-Language", "Cookie"]
    hints = ["sec-ch-ua-platform", "User-Agent", "sec-ch-ua", "sec-ch-ua-mobile", "Accept"]
    assert names[b"GET"] == ["Host", "Connection", *hints, *rest]
    assert names[b"POS"] == ["Host", "Connection", "Content-Length", *hints, "Origin", *rest]
    version = re.search(r"Chrome/(\d+)\.", dict(seen[carrier.relay.requests[0]])["User-Agent"])
    assert version is not None
    assert all(f'"Google Chrome";v="{version[1]}"' in dict(h)["sec-ch-ua"] for h in seen.values())


async def test_bytes_arrive_both_ways(carrier: Carrier) -> None:
    up, down = os.urandom(SIZE), os.urandom(SIZE)
    async with asyncio.TaskGroup() as group:
        group.create_task(write_all(carrier.near, up))
        group.create_task(write_all(carrier.far, down))
        received = group.create_task(read_exactly(carrier.far, SIZE))
        read = group.create_task(read_exactly(carrier.near, SIZE))
    assert received.result() == up
    assert read.result() == down
    assert all(b"/site?t=" in request for request in carrier.relay.requests)


async def test_small_messages_are_answered_in_turn(carrier: Carrier) -> None:
    for number in range(4):
        word = bytes((number,)) * 10
        await write_all(carrier.near, word)
        assert await read_exactly(carrier.far, 10) == word
        await write_all(carrier.far, word)
        assert await read_exactly(carrier.near, 10) == word


async def test_each_direction_ends_by_itself(carrier: Carrier) -> None:
    await write_all(carrier.near, b"last bytes")
    carrier.near.write_eof()
    assert await read_all(carrier.far) == b"last bytes"
    await write_all(carrier.far, b"answer")
    carrier.far.write_eof()
    while not carrier.far.flush():
        await carrier.far.wait_writable()
    assert await read_all(carrier.near) == b"answer"


async def test_closing_in_order_loses_nothing(carrier: Carrier) -> None:
    data = os.urandom(100_000)
    async with asyncio.TaskGroup() as group:
        received = group.create_task(read_all(carrier.far))
        await write_all(carrier.near, data)
        await carrier.near.aclose()
    assert received.result() == data


async def test_a_relay_that_does_not_read_stops_the_writer(carrier: Carrier) -> None:
    written = b""
    while carrier.near.room() > 0:
        data = os.urandom(10_000)
        block = memoryview(bytearray(data))
        written += data[: carrier.near.write(block, 0, len(block))]
        await asyncio.sleep(0)
    assert len(written) <= 2 * WINDOW
    assert await read_exactly(carrier.far, len(written)) == written
    await carrier.near.wait_writable()


async def test_a_client_that_does_not_read_stops_the_relay(
    carrier: Carrier, account: Account
) -> None:
    writing = asyncio.ensure_future(write_all(carrier.far, bytes(4 * SIZE)))
    await asyncio.sleep(0.05)
    assert not writing.done()
    assert account.leased == 0
    assert await read_exactly(carrier.near, 4 * SIZE) == bytes(4 * SIZE)
    await writing


async def test_requests_that_fail_are_sent_again(carrier: Carrier) -> None:
    carrier.relay.fail_next = 2
    data = os.urandom(200_000)
    async with asyncio.TaskGroup() as group:
        received = group.create_task(read_exactly(carrier.far, len(data)))
        group.create_task(write_all(carrier.near, data))
    assert received.result() == data


@pytest.mark.parametrize("is_short", [False, True])
async def test_an_empty_answer_is_not_the_end(
    certificate: Certificate, account: Account, *, is_short: bool
) -> None:
    async with http_relay(certificate) as (relay, port):
        relay.empty_next = 2
        near = open_stream(link_to(port, certificate), account, is_short=is_short)
        await near.opened()
        await write_all(await relay.streams.get(), b"late")
        assert await read_exactly(near, 4) == b"late"
        near.abort()
        await near.closed()


async def test_a_front_that_always_fails_breaks_the_stream(carrier: Carrier) -> None:
    carrier.relay.fail_next = 1000
    await write_all(carrier.near, b"x")
    with pytest.raises(StreamResetError, match="the front"):
        await read_all(carrier.near)
    carrier.near.write_eof()
    await carrier.near.aclose()


async def test_the_relay_ends_a_carrier_without_requests(
    certificate: Certificate, account: Account
) -> None:
    async with http_relay(certificate, HttpTimings(silence=0.02)) as (relay, port):
        near = open_stream(link_to(port, certificate), account)
        await near.opened()
        far = await relay.streams.get()
        near.abort()
        with pytest.raises(StreamResetError):
            await read_all(far)
        with pytest.raises(StreamResetError):
            await read_all(near)
        await near.closed()


async def test_writing_to_a_closed_carrier_raises(carrier: Carrier) -> None:
    carrier.far.abort()
    await carrier.far.wait_writable()
    assert carrier.far.room()
    with pytest.raises(StreamResetError):
        await write_all(carrier.far, b"x")


async def test_the_client_reads_the_end_when_the_relay_closes(carrier: Carrier) -> None:
    carrier.far.abort()
    assert await read_all(carrier.near) == b""
