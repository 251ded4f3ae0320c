"""A stream made of HTTP requests: both ends, and what fronts do to requests."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from circumvent.api import Account, ByteStream, StreamResetError
from circumvent.errors import ProtocolError
from circumvent.memory import Memory
from circumvent.relay.carriers import http_requests
from circumvent.relay.carriers import http_stream as relay_end
from circumvent.relay.knocks import KnockVerifier
from circumvent.testing.steps import read_all, read_exactly, write_all
from circumvent.wire import http_carrier as wire
from circumvent.wire.knock import Knock, KnockKind, open_knock, seal_knock
from circumvent.wire.request_watch import RequestHead
from circumvent_plugins.fronted_carrier import stream as fronted_stream
from circumvent_plugins.fronted_carrier.stream import FrontedStream
from tests.peers.certificates import Certificate
from tests.unit.http_relay import KNOCK_KEY, HttpRelay, http_relay, link_to, open_stream
from tests.unit.local_sockets import until

SIZE = 1_500_000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fronted_stream, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(http_requests, "SHORT_PAUSE", 0.002)


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
        yield Carrier(near, await relay.ends.get(), relay)
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


async def test_small_things_go_to_and_fro(carrier: Carrier) -> None:
    for number in range(10):
        word = bytes((number,)) * 10
        await write_all(carrier.near, word)
        assert await read_exactly(carrier.far, 10) == word
        await write_all(carrier.far, word)
        assert await read_exactly(carrier.near, 10) == word


async def test_each_side_ends_by_itself(carrier: Carrier) -> None:
    await write_all(carrier.near, b"last words")
    carrier.near.write_eof()
    assert await read_all(carrier.far) == b"last words"
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
    assert len(written) <= 2 * fronted_stream.WINDOW
    assert await read_exactly(carrier.far, len(written)) == written
    await carrier.near.wait_writable()


async def test_a_client_that_does_not_read_stops_the_relay(
    carrier: Carrier, account: Account
) -> None:
    writing = asyncio.ensure_future(write_all(carrier.far, bytes(6 * SIZE)))
    await asyncio.sleep(0.1)
    assert not writing.done()
    assert account.leased == 0
    assert await read_exactly(carrier.near, 6 * SIZE) == bytes(6 * SIZE)
    await writing


async def test_requests_that_fail_are_sent_again(carrier: Carrier) -> None:
    carrier.relay.fail_next = 2
    data = os.urandom(200_000)
    async with asyncio.TaskGroup() as group:
        received = group.create_task(read_exactly(carrier.far, len(data)))
        group.create_task(write_all(carrier.near, data))
    assert received.result() == data


@pytest.mark.parametrize("is_short", [False, True])
async def test_an_empty_answer_is_not_an_end(
    certificate: Certificate, account: Account, *, is_short: bool
) -> None:
    async with http_relay(certificate) as (relay, port):
        relay.empty_next = 2
        near = open_stream(link_to(port, certificate), account, is_short=is_short)
        await near.opened()
        await write_all(await relay.ends.get(), b"late")
        assert await read_exactly(near, 4) == b"late"
        near.abort()
        await near.closed()


async def test_a_front_that_fails_for_good_breaks_the_stream(carrier: Carrier) -> None:
    carrier.relay.fail_next = 1000
    await write_all(carrier.near, b"x")
    with pytest.raises(StreamResetError, match="the front"):
        await read_all(carrier.near)
    carrier.near.write_eof()
    await carrier.near.aclose()


async def test_the_relay_ends_what_its_client_left(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_end, "SILENCE_SECONDS", 0.02)
    carrier.near.abort()
    with pytest.raises(StreamResetError):
        await read_all(carrier.far)
    with pytest.raises(StreamResetError):
        await read_all(carrier.near)


async def test_a_write_to_a_closed_carrier_is_an_error(carrier: Carrier) -> None:
    carrier.far.abort()
    await carrier.far.wait_writable()
    assert carrier.far.room()
    with pytest.raises(StreamResetError):
        await write_all(carrier.far, b"x")


async def test_the_client_sees_that_the_relay_closed(carrier: Carrier) -> None:
    carrier.far.abort()
    assert await read_all(carrier.near) == b""


class TestRepetition:
    """What somebody on the way does with requests that it saw."""

    @pytest.fixture
    def key(self) -> bytes:
        return os.urandom(16)

    def knock(self, kind: KnockKind, carrier: bytes, offset: int = 0) -> Knock:
        return Knock(
            kind, int(time.time()), os.urandom(12), wire.pack_note(wire.Note(carrier, offset))
        )

    async def test_requests_of_no_carrier_are_not_taken(self, carrier: Carrier) -> None:
        expects = carrier.relay.carriers.expects
        unknown = os.urandom(16)
        assert expects(self.knock(KnockKind.DOWNLOAD, unknown))
        assert expects(self.knock(KnockKind.UPLOAD, unknown))
        assert not expects(self.knock(KnockKind.DOWNLOAD, unknown, 1))
        assert not expects(self.knock(KnockKind.UPLOAD, unknown, 1))
        assert not expects(Knock(KnockKind.UPLOAD, 0, bytes(12), b"no note"))
        assert expects(Knock(KnockKind.WEBSOCKET, 0, bytes(12)))

    async def test_a_carrier_that_is_over_begins_no_more(self, carrier: Carrier) -> None:
        knock = open_knock(KNOCK_KEY, carrier.relay.cookies[0], b"")
        assert knock is not None
        assert carrier.relay.carriers.expects(knock)
        carrier.relay.release()
        await until(lambda: not carrier.relay.carriers.expects(knock))

    @pytest.mark.parametrize(
        ("kind", "method", "length", "admitted"),
        [
            (KnockKind.DOWNLOAD, b"GET", b"", True),
            (KnockKind.DOWNLOAD, b"POST", b"0", False),
            (KnockKind.UPLOAD, b"POST", b"100", True),
            (KnockKind.UPLOAD, b"POST", b"65537", False),
            (KnockKind.UPLOAD, b"GET", b"", False),
        ],
    )
    def test_the_doorkeeper_looks_at_the_request_too(
        self, key: bytes, kind: KnockKind, method: bytes, length: bytes, *, admitted: bool
    ) -> None:
        cookie = seal_knock(key, self.knock(kind, bytes(16))).encode()
        headers = {b"cookie": cookie} | ({b"content-length": length} if length else {})
        head = RequestHead(method, b"/", headers)
        assert (KnockVerifier([key]).admit(head, b"") is not None) is admitted

    def test_a_download_begins_once_and_a_front_may_repeat_an_upload(self, key: bytes) -> None:
        doorkeeper = KnockVerifier([key])
        for kind, method, again in (
            (KnockKind.DOWNLOAD, b"GET", False),
            (KnockKind.UPLOAD, b"POST", True),
        ):
            cookie = seal_knock(key, self.knock(kind, bytes(16))).encode()
            head = RequestHead(method, b"/", {b"cookie": cookie})
            assert doorkeeper.admit(head, b"") is not None
            assert (doorkeeper.admit(head, b"") is not None) is again


def test_notes_come_back_and_nonsense_is_refused() -> None:
    note = wire.Note(os.urandom(16), 1 << 40, wire.Flags.SHORT | wire.Flags.LAST)
    assert wire.parse_note(wire.pack_note(note)) == note
    with pytest.raises(ProtocolError, match="without its carrier"):
        wire.parse_note(b"short")
