"""Users are held to their rate, and what they use is counted."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from circumvent.net.tcp import TcpStream
from circumvent.relay.config import RelayLimits, UserEntry
from circumvent.relay.users.meter import Bucket, Meter, MeteredStream
from circumvent.relay.users.users import Users
from circumvent.testing.far_end import connected
from circumvent.testing.steps import read_exactly, write_all
from circumvent.wire.base64url import encode_base64url
from circumvent.wire.credential import make_credential

BINDING = b"b" * 32


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_lets_its_rate_through_and_no_more() -> None:
    clock = Clock()
    bucket = Bucket(1000, clock)
    moved = 0
    for _ in range(10_000):
        while not bucket.delay:
            bucket.take(300)
            moved += 300
        clock.now += max(bucket.delay, 0.001)
        if clock.now > 20:
            break
    assert 20_000 <= moved <= 22_500  # what came in 20 s, what was in it, and one step


def test_an_unused_rate_is_not_saved_up() -> None:
    clock = Clock()
    bucket = Bucket(1000, clock)
    clock.now = 1000.0
    assert not bucket.delay
    bucket.take(1500)
    assert bucket.delay == pytest.approx(0.5)


def test_without_a_rate_there_is_no_delay() -> None:
    bucket = Bucket()
    bucket.take(10**12)
    assert not bucket.delay


async def test_a_stream_is_counted_once_and_its_bytes_each_way() -> None:
    near, far = connected(small=65536, receive=65536)
    meter = Meter()
    stream, peer = MeteredStream(TcpStream(near), meter), TcpStream(far)
    assert meter.streams == 1
    await write_all(stream, b"up")
    await write_all(peer, b"down")
    assert await read_exactly(stream, 4) == b"down"
    assert (meter.bytes_up, meter.bytes_down) == (2, 4)
    await stream.aclose()
    stream.abort()
    assert meter.streams == 0
    peer.abort()


@pytest.mark.parametrize("upwards", [True, False])
async def test_a_stream_keeps_to_the_rate(*, upwards: bool) -> None:
    near, far = connected(small=1 << 20, receive=1 << 20)
    far.setblocking(False)
    meter = Meter()
    meter.set_rate(1_000_000)
    paced, peer = MeteredStream(TcpStream(near), meter), TcpStream(far)
    source, sink = (paced, peer) if upwards else (peer, paced)
    started = time.monotonic()
    for _ in range(3):  # each but the first waits until the one before it is paid for
        await write_all(source, bytes(50_000))
        assert len(await read_exactly(sink, 50_000)) == 50_000
    assert time.monotonic() - started >= 0.08
    paced.abort()
    peer.abort()


def entry(name: str, token: bytes, limits: RelayLimits | None = None) -> UserEntry:
    return UserEntry(name, encode_base64url(token), limits)


def test_a_credential_names_its_user() -> None:
    users = Users()
    users.replace([entry("anna", b"a" * 16), entry("ben", b"b" * 16)], RelayLimits())
    assert users.verify(make_credential(b"b" * 16, BINDING), BINDING) == "ben"
    assert users.verify(make_credential(b"b" * 16, BINDING), b"other") is None
    assert users.verify(make_credential(b"c" * 16, BINDING), BINDING) is None
    assert users.verify(make_credential(b"a" * 16, BINDING)[:-1], BINDING) is None
    assert users.verify(b"", BINDING) is None


def test_a_user_that_stays_keeps_its_counters_and_gets_new_limits() -> None:
    users = Users()
    users.replace([entry("anna", b"a" * 16), entry("ben", b"b" * 16)], RelayLimits())
    meter = users.by_name["anna"].meter
    meter.bytes_up = 7
    users.by_name["ben"].meter.bytes_up = 5
    own = RelayLimits(sessions=1, rate="1 MiB")
    users.replace([entry("anna", b"x" * 16, own)], RelayLimits())
    assert users.by_name["anna"].meter is meter
    assert meter.down.rate == 1 << 20
    assert users.by_name["anna"].limits.sessions == 1
    assert sum(each.bytes_up for each in users.meters) == 12
    assert users.verify(make_credential(b"a" * 16, BINDING), BINDING) is None
