"""Knocks are verified with their request, and those that somebody repeats are refused."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from circumvent.errors import ProtocolError
from circumvent.memory import Memory
from circumvent.relay.knocks import KnockVerifier
from circumvent.wire import http_carrier as wire
from circumvent.wire.knock import Knock, KnockKind, open_knock, seal_knock
from circumvent.wire.request_watch import RequestHead
from tests.peers.certificates import Certificate
from tests.unit.http_relay import KNOCK_KEY, HttpRelay, http_relay, link_to, open_stream
from tests.unit.local_sockets import until


@pytest.fixture
async def relay(certificate: Certificate) -> AsyncIterator[HttpRelay]:
    """A relay that one client has a carrier to."""
    account = Memory(1 << 20).account("test")
    async with http_relay(certificate) as (relay, port):
        near = open_stream(link_to(port, certificate), account)
        await near.opened()
        await relay.streams.get()
        yield relay
        near.abort()
        await near.closed()


@pytest.fixture
def key() -> bytes:
    return os.urandom(16)


def make_knock(kind: KnockKind, carrier: bytes, offset: int = 0) -> Knock:
    return Knock(kind, int(time.time()), os.urandom(12), wire.pack_note(wire.Note(carrier, offset)))


def download(key: bytes, at: int | None = None) -> RequestHead:
    """A request with a right knock that counts once."""
    knock = make_knock(KnockKind.DOWNLOAD, bytes(16))
    if at is not None:
        knock = replace(knock, at=at)
    return RequestHead(b"GET", b"/", {b"cookie": seal_knock(key, knock).encode()})


async def test_a_request_in_the_middle_of_an_unknown_carrier_is_not_expected(
    relay: HttpRelay,
) -> None:
    expects = relay.carriers.expects
    unknown = os.urandom(16)
    assert expects(make_knock(KnockKind.DOWNLOAD, unknown))
    assert expects(make_knock(KnockKind.UPLOAD, unknown))
    assert not expects(make_knock(KnockKind.DOWNLOAD, unknown, 1))
    assert not expects(make_knock(KnockKind.UPLOAD, unknown, 1))
    assert not expects(Knock(KnockKind.UPLOAD, 0, bytes(12), b"no note"))
    assert expects(Knock(KnockKind.WEBSOCKET, 0, bytes(12)))


async def test_a_carrier_that_is_over_does_not_begin_again(relay: HttpRelay) -> None:
    knock = open_knock(KNOCK_KEY, relay.cookies[0], b"")
    assert knock is not None
    assert relay.carriers.expects(knock)
    relay.release()
    await until(lambda: not relay.carriers.expects(knock))


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
def test_a_knock_must_fit_its_request(
    key: bytes, kind: KnockKind, method: bytes, length: bytes, *, admitted: bool
) -> None:
    cookie = seal_knock(key, make_knock(kind, bytes(16))).encode()
    headers = {b"cookie": cookie} | ({b"content-length": length} if length else {})
    head = RequestHead(method, b"/", headers)
    assert (KnockVerifier([key]).admit(head, b"") is not None) is admitted


def test_a_download_begins_once_and_a_front_may_repeat_an_upload(key: bytes) -> None:
    verifier = KnockVerifier([key])
    for kind, method, again in (
        (KnockKind.DOWNLOAD, b"GET", False),
        (KnockKind.UPLOAD, b"POST", True),
    ):
        cookie = seal_knock(key, make_knock(kind, bytes(16))).encode()
        head = RequestHead(method, b"/", {b"cookie": cookie})
        assert verifier.admit(head, b"") is not None
        assert (verifier.admit(head, b"") is not None) is again


@pytest.mark.parametrize(
    ("off", "admitted"), [(0, True), (900, True), (-900, True), (901, False), (-901, False)]
)
def test_a_knock_counts_for_a_quarter_of_an_hour(key: bytes, off: int, *, admitted: bool) -> None:
    verifier = KnockVerifier([key], now=lambda: 1e9)
    assert (verifier.admit(download(key, 10**9 + off), b"") is not None) is admitted


def test_only_so_many_knocks_are_remembered(key: bytes) -> None:
    verifier = KnockVerifier([key], max_seen=2)
    heads = [download(key) for _ in range(3)]
    assert all(verifier.admit(head, b"") is not None for head in heads)
    assert [verifier.admit(head, b"") is not None for head in heads[::-1]] == [False, False, True]


def test_knocks_that_are_too_old_to_count_are_forgotten(key: bytes) -> None:
    now = 10**9
    verifier = KnockVerifier([key], now=lambda: now, max_seen=2)
    for later in (0, 0, 2 * 900 + 1):
        now = 10**9 + later
        assert verifier.admit(download(key, now), b"") is not None
    assert len(verifier._seen) == 1  # noqa: SLF001 - what is remembered costs memory


def test_notes_come_back_and_nonsense_is_refused() -> None:
    note = wire.Note(os.urandom(16), 1 << 40, wire.Flags.SHORT | wire.Flags.LAST)
    assert wire.parse_note(wire.pack_note(note)) == note
    with pytest.raises(ProtocolError, match="without its carrier"):
        wire.parse_note(b"short")
