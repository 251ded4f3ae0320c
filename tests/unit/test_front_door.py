import asyncio
import base64
import errno
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from circumvent.errors import (
    CircumventError,
    ConfigError,
    DestinationError,
    DialError,
    NoTunnelError,
    Reason,
)
from circumvent.proxy.options import DoorOptions, parse_listen
from circumvent.wire.address import Destination
from circumvent.wire.socks5 import REPLIES, Reply
from tests.unit.door import (
    CREDENTIALS,
    SITE,
    cut_short,
    destination,
    echo,
    home,
    socks4a,
    socks5,
)

GREETING = b"\x05\x01\x00"
SUCCEEDED = REPLIES[Reply.SUCCEEDED]
LOGIN = b"\x01\x02me\x06s:cret"
BASIC = base64.b64encode(b"me:s:cret")


def connect(port: int, *headers: bytes) -> bytes:
    lines = [b"CONNECT %b:%d HTTP/1.1" % (SITE.encode(), port), b"Host: x", *headers, b"", b""]
    return b"\r\n".join(lines)


# --- SOCKS5 ------------------------------------------------------------------------------------


async def test_socks5_leads_to_a_name_that_nobody_here_resolves() -> None:
    async with destination(echo) as port, home() as house:
        caller = await house.knock()
        await caller.say(GREETING)
        assert await caller.hear(2) == b"\x05\x00"
        await caller.say(socks5(SITE, port))
        assert await caller.hear(10) == SUCCEEDED
        await caller.say(b"hello")
        assert await caller.hear(5) == b"hello"
        assert house.dispatcher.asked == [Destination(SITE, port)]
        caller.hang_up()


async def test_socks5_in_one_breath_with_data_behind_loses_nothing() -> None:
    async with destination(echo) as port, home() as house:
        caller = await house.knock()
        await caller.say(GREETING + socks5(SITE, port) + b"x" * 5000)
        assert await caller.hear(2 + 10 + 5000) == b"\x05\x00" + SUCCEEDED + b"x" * 5000
        caller.hang_up()


async def test_socks5_spelled_byte_by_byte_is_understood() -> None:
    async with destination(echo) as port, home() as house:
        caller = await house.knock()
        await caller.spell(GREETING + socks5(SITE, port) + b"hello")
        assert await caller.hear(2 + 10 + 5) == b"\x05\x00" + SUCCEEDED + b"hello"
        caller.hang_up()


async def test_half_close_is_kept() -> None:
    async with destination(echo) as port, home() as house:
        caller = await house.knock()
        await caller.say(GREETING + socks5(SITE, port) + b"hello")
        caller.writer.write_eof()
        assert (await caller.hear_out())[12:] == b"hellothe end"
        caller.hang_up()


async def test_an_ipv6_destination() -> None:
    async with destination(echo, "::1") as port, home() as house:
        caller = await house.knock()
        await caller.say(GREETING + socks5("::1", port) + b"hello")
        assert (await caller.hear(17))[12:] == b"hello"
        caller.hang_up()


async def test_localhost_listens_on_both_families() -> None:
    async with home(DoorOptions("localhost", 0)) as house:
        assert [host for host, _ in house.door.addresses] == ["127.0.0.1", "::1"]
        for host, port in house.door.addresses:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(GREETING)
            assert await reader.readexactly(2) == b"\x05\x00"
            writer.close()


@pytest.mark.parametrize(
    ("failure", "reply"),
    [
        (DestinationError(Reason.FAILURE), Reply.GENERAL_FAILURE),
        (DestinationError(Reason.FORBIDDEN), Reply.NOT_ALLOWED),
        (DestinationError(Reason.NETWORK_UNREACHABLE), Reply.NETWORK_UNREACHABLE),
        (DestinationError(Reason.HOST_UNREACHABLE), Reply.HOST_UNREACHABLE),
        (DestinationError(Reason.REFUSED), Reply.REFUSED),
        (DestinationError(Reason.TIMED_OUT), Reply.TTL_EXPIRED),
        (NoTunnelError("none"), Reply.GENERAL_FAILURE),
        (DialError("lost"), Reply.GENERAL_FAILURE),
    ],
)
async def test_socks5_says_the_true_reason(failure: CircumventError, reply: Reply) -> None:
    async with home() as house:
        house.dispatcher.failure = failure
        caller = await house.knock()
        await caller.say(GREETING + socks5(SITE, 80) + b"early data, never read")
        assert await caller.hear_out() == b"\x05\x00" + REPLIES[reply]
        caller.hang_up()


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"\x05\x02\x00\x01" + bytes(6), Reply.COMMAND_UNSUPPORTED),
        (b"\x05\x03\x00\x01" + bytes(6), Reply.COMMAND_UNSUPPORTED),
        (b"\x05\x01\x00\x09" + bytes(6), Reply.ADDRESS_UNSUPPORTED),
        (b"\x05\x01\x00\x03\x03a b\x00\x50", Reply.GENERAL_FAILURE),
    ],
)
async def test_socks5_refuses_what_it_cannot_do(request_: bytes, reply: Reply) -> None:
    async with home() as house:
        caller = await house.knock()
        await caller.say(GREETING + request_)
        assert await caller.hear_out() == b"\x05\x00" + REPLIES[reply]
        caller.hang_up()


async def test_a_failure_after_the_reply_is_a_reset() -> None:
    async with destination(cut_short) as port, home() as house:
        caller = await house.knock()
        await caller.say(GREETING + socks5(SITE, port))
        assert await caller.hear(12)
        await caller.say(b"x")
        with pytest.raises(ConnectionResetError):
            await caller.hear_out()


# --- passwords ---------------------------------------------------------------------------------

GUARDED = DoorOptions(port=0, credentials=CREDENTIALS)


async def test_socks5_with_the_right_password() -> None:
    async with destination(echo) as port, home(GUARDED) as house:
        caller = await house.knock()
        await caller.say(b"\x05\x02\x00\x02" + LOGIN + socks5(SITE, port) + b"hello")
        assert await caller.hear(19) == b"\x05\x02\x01\x00" + SUCCEEDED + b"hello"
        caller.hang_up()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (GREETING, b"\x05\xff"),
        (b"\x05\x01\x02\x01\x02me\x05wrong", b"\x05\x02\x01\x01"),
        (b"\x05\x01\x02\x01\x02ME\x06s:cret", b"\x05\x02\x01\x01"),
        (socks4a(SITE, 80), b"\x00\x5b" + bytes(6)),
    ],
)
async def test_nobody_gets_in_without_the_password(words: bytes, answer: bytes) -> None:
    async with home(GUARDED) as house:
        caller = await house.knock()
        await caller.say(words)
        assert await caller.hear_out() == answer
        assert house.dispatcher.asked == []
        caller.hang_up()


async def test_http_asks_for_the_password() -> None:
    async with home(GUARDED) as house:
        for wrong in (b"X: y", b"Proxy-Authorization: Basic bWU6bm8="):
            caller = await house.knock()
            await caller.say(connect(80, wrong))
            answer = await caller.hear_out()
            assert answer.startswith(b"HTTP/1.1 407 ")
            assert b"\r\nProxy-Authenticate: Basic " in answer
            caller.hang_up()


async def test_http_with_the_right_password() -> None:
    async with destination(echo) as port, home(GUARDED) as house:
        caller = await house.knock()
        await caller.say(connect(port, b"Proxy-Authorization: Basic " + BASIC) + b"hello")
        head = await caller.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await caller.hear(5) == b"hello"
        caller.hang_up()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_others_are_let_in_only_with_a_password(host: str) -> None:
    with pytest.raises(ConfigError, match="password"):
        DoorOptions(host)
    assert DoorOptions(host, credentials=CREDENTIALS).addresses == (host,)


def test_a_password_never_shows() -> None:
    assert "s:cret" not in repr(GUARDED)


# --- SOCKS4 ------------------------------------------------------------------------------------


async def test_socks4a_leads_to_a_name() -> None:
    async with destination(echo) as port, home() as house:
        for talk in ("say", "spell"):
            caller = await house.knock()
            await getattr(caller, talk)(socks4a(SITE, port) + b"hello")
            assert await caller.hear(13) == b"\x00\x5a" + bytes(6) + b"hello"
            caller.hang_up()


async def test_socks4_knows_only_no() -> None:
    async with home() as house:
        house.dispatcher.failure = DestinationError(Reason.REFUSED)
        for words in (socks4a(SITE, 80), socks4a("a b", 80), b"\x04\x02" + bytes(7)):
            caller = await house.knock()
            await caller.say(words)
            assert await caller.hear_out() == b"\x00\x5b" + bytes(6)
            caller.hang_up()


# --- HTTP CONNECT ------------------------------------------------------------------------------


async def test_connect_with_data_behind_loses_nothing() -> None:
    async with destination(echo) as port, home() as house:
        for talk in ("say", "spell"):
            caller = await house.knock()
            await getattr(caller, talk)(connect(port) + b"hello")
            await caller.reader.readuntil(b"\r\n\r\n")
            assert await caller.hear(5) == b"hello"
            caller.hang_up()


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (DestinationError(Reason.REFUSED), b"502"),
        (DestinationError(Reason.TIMED_OUT), b"504"),
        (NoTunnelError("none"), b"503"),
        (DialError("lost"), b"502"),
    ],
)
async def test_http_says_the_true_reason(failure: CircumventError, status: bytes) -> None:
    async with home() as house:
        house.dispatcher.failure = failure
        for request in (connect(80), b"GET http://site.test/ HTTP/1.1\r\nHost: x\r\n\r\n"):
            caller = await house.knock()
            await caller.say(request)
            head, _, body = (await caller.hear_out()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)
            assert b"Content-Length: %d" % len(body) in head
            assert SITE.encode() not in body
            caller.hang_up()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"CONNECT nowhere HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET https://x/ HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GARBAGE\r\n\r\n", b"400"),
        (b"TRACE http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"GET http://x/ HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"431"),
    ],
)
async def test_http_refuses_what_it_cannot_do(request_: bytes, status: bytes) -> None:
    async with home() as house:
        caller = await house.knock()
        await caller.say(request_)
        assert (await caller.hear_out()).startswith(b"HTTP/1.1 " + status)
        assert house.dispatcher.asked == []
        caller.hang_up()


# --- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("beginning", [b"\x05", b"\x05\x01\x00\x05", b"\x04\x01", b"GET http"])
async def test_whoever_dawdles_at_the_door_is_cut(beginning: bytes) -> None:
    async with home(DoorOptions(port=0, handshake_seconds=0.1)) as house:
        caller = await house.knock()
        await caller.say(beginning)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(caller.hear_out(), 2)


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00", b"\x00", b"\x04" + b"x" * 600])
async def test_noise_is_cut(noise: bytes) -> None:
    async with home() as house:
        caller = await house.knock()
        await caller.say(noise)
        with suppress(ConnectionResetError):
            assert await caller.hear_out() in {b"", b"\x00\x5b" + bytes(6)}
        assert house.dispatcher.asked == []
        caller.hang_up()


async def test_above_the_limit_clients_wait_until_somebody_leaves() -> None:
    async with home(DoorOptions(port=0, max_clients=1)) as house:
        first, second = await house.knock(), await house.knock()
        await first.say(GREETING)
        await first.hear(2)
        await second.say(GREETING)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.hear(2), 0.1)
        first.hang_up()
        third = await house.knock()
        third.hang_up()
        await asyncio.sleep(0.05)
        assert house.door.clients <= 1
        second.hang_up()


async def test_a_second_client_is_served_when_the_first_left() -> None:
    async with home(DoorOptions(port=0, max_clients=1)) as house:
        first, second = await house.knock(), await house.knock()
        await first.say(GREETING)
        await first.hear(2)
        await second.say(GREETING)
        first.hang_up()
        assert await second.hear(2) == b"\x05\x00"
        second.hang_up()


async def test_idle_clients_are_cut_and_busy_ones_stay() -> None:
    async with destination(echo) as port, home(DoorOptions(port=0, idle_seconds=0.4)) as house:
        idle, busy = await house.knock(), await house.knock()
        for caller in (idle, busy):
            await caller.say(GREETING + socks5(SITE, port))
            await caller.hear(12)
        for _ in range(10):
            await asyncio.sleep(0.1)
            await busy.say(b"x")
            assert await busy.hear(1) == b"x"
        with pytest.raises(ConnectionResetError):
            await idle.hear_out()
        busy.hang_up()


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_without_descriptors_accepting_pauses(caplog: pytest.LogCaptureFixture) -> None:
    async with home() as house:
        caller = await house.knock()
        with no_descriptors_left(), caplog.at_level(logging.WARNING):
            await caller.say(GREETING)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(caller.hear(2), 1.2)
        assert await caller.hear(2) == b"\x05\x00"
        assert len(caplog.records) == 1
        caller.hang_up()


# --- coming and going --------------------------------------------------------------------------


async def test_clients_may_leave_at_any_point() -> None:
    async with destination(echo) as port, home() as house:
        words = GREETING + socks5(SITE, port) + b"hello"
        for end in range(len(words)):
            caller = await house.knock()
            await caller.say(words[:end])
            caller.leave_with_a_reset() if end % 2 else caller.hang_up()
        await asyncio.sleep(0.2)
        assert house.door.clients == 0


async def test_drain_waits_for_those_inside_and_lets_nobody_in() -> None:
    async with destination(echo) as port, home() as house:
        caller = await house.knock()
        await caller.say(GREETING + socks5(SITE, port))
        await caller.hear(12)
        drained = asyncio.create_task(house.door.drain())
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionRefusedError):
            await house.knock()
        await caller.say(b"still here")
        assert await caller.hear(10) == b"still here"
        assert not drained.done()
        caller.hang_up()
        await asyncio.wait_for(drained, 2)


async def test_closing_cuts_everybody() -> None:
    async with destination(echo) as port, home() as house:
        caller = await house.knock()
        await caller.say(GREETING + socks5(SITE, port))
        await caller.hear(12)
        await house.door.aclose()
        with pytest.raises(ConnectionResetError):
            await caller.hear_out()


async def test_a_taken_port_is_explained() -> None:
    async with home() as house:
        with pytest.raises(ConfigError, match="--listen") as caught:
            async with home(DoorOptions(port=house.port)):
                pass
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:1080", ("127.0.0.1", 1080)),
        ("[::1]:1", ("::1", 1)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_listen_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize("text", ["", "1080", "::1:80", "[::1]", "x:", "x:65536", "[x]:80", "x:²"])
def test_wrong_listen_addresses_say_so(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        parse_listen(text)


def test_names_to_listen_on_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        DoorOptions("site.example")
