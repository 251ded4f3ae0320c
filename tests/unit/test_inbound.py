import asyncio
import base64

import pytest

from circumvent.errors import (
    CircumventError,
    ConfigError,
    DestinationError,
    DialError,
    NoTunnelError,
    Reason,
)
from circumvent.inbound.options import InboundOptions
from circumvent.wire.address import Destination
from circumvent.wire.socks5 import REPLIES, Reply
from tests.unit.inbound_client import (
    CREDENTIALS,
    GREETING,
    SITE,
    Client,
    cut_short,
    destination,
    echo,
    running_inbound,
    socks4a,
    socks5,
)

SUCCEEDED = REPLIES[Reply.SUCCEEDED]
LOGIN = b"\x01\x02me\x06s:cret"
BASIC = base64.b64encode(b"me:s:cret")


def connect(port: int, *headers: bytes) -> bytes:
    lines = [b"CONNECT %b:%d HTTP/1.1" % (SITE.encode(), port), b"Host: x", *headers, b"", b""]
    return b"\r\n".join(lines)


# --- SOCKS5 ------------------------------------------------------------------------------------


async def test_socks5_leads_to_a_name_that_nobody_here_resolves() -> None:
    async with destination(echo) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(GREETING)
        assert await client.receive(2) == b"\x05\x00"
        await client.send(socks5(SITE, port))
        assert await client.receive(10) == SUCCEEDED
        await client.send(b"hello")
        assert await client.receive(5) == b"hello"
        assert inbound.outbound.asked == [Destination(SITE, port)]
        client.close()


async def test_socks5_in_one_packet_with_data_behind_loses_nothing() -> None:
    async with destination(echo) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(GREETING + socks5(SITE, port) + b"x" * 5000)
        assert await client.receive(2 + 10 + 5000) == b"\x05\x00" + SUCCEEDED + b"x" * 5000
        client.close()


async def test_socks5_in_single_bytes_is_understood() -> None:
    async with destination(echo) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send_slowly(GREETING + socks5(SITE, port) + b"hello")
        assert await client.receive(2 + 10 + 5) == b"\x05\x00" + SUCCEEDED + b"hello"
        client.close()


async def test_half_close_is_kept() -> None:
    async with destination(echo) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(GREETING + socks5(SITE, port) + b"hello")
        client.writer.write_eof()
        assert (await client.receive_all())[12:] == b"hellothe end"
        client.close()


async def test_an_ipv6_destination() -> None:
    async with destination(echo, "::1") as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(GREETING + socks5("::1", port) + b"hello")
        assert (await client.receive(17))[12:] == b"hello"
        client.close()


async def test_localhost_listens_on_both_families() -> None:
    async with running_inbound(InboundOptions("localhost", 0)) as inbound:
        assert [host for host, _ in inbound.server.addresses] == ["127.0.0.1", "::1"]
        for host, port in inbound.server.addresses:
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
async def test_socks5_gives_the_true_reason(failure: CircumventError, reply: Reply) -> None:
    async with running_inbound() as inbound:
        inbound.outbound.failure = failure
        client = await inbound.connect()
        await client.send(GREETING + socks5(SITE, 80) + b"early data, never read")
        assert await client.receive_all() == b"\x05\x00" + REPLIES[reply]
        client.close()


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
    async with running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(GREETING + request_)
        assert await client.receive_all() == b"\x05\x00" + REPLIES[reply]
        client.close()


async def test_a_failure_after_the_reply_is_a_reset() -> None:
    async with destination(cut_short) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(GREETING + socks5(SITE, port))
        assert await client.receive(12)
        await client.send(b"x")
        with pytest.raises(ConnectionResetError):
            await client.receive_all()


# --- passwords ---------------------------------------------------------------------------------

GUARDED = InboundOptions(port=0, credentials=CREDENTIALS)


async def test_socks5_with_the_right_password() -> None:
    async with destination(echo) as port, running_inbound(GUARDED) as inbound:
        client = await inbound.connect()
        await client.send(b"\x05\x02\x00\x02" + LOGIN + socks5(SITE, port) + b"hello")
        assert await client.receive(19) == b"\x05\x02\x01\x00" + SUCCEEDED + b"hello"
        client.close()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (GREETING, b"\x05\xff"),
        (b"\x05\x01\x02\x01\x02me\x05wrong", b"\x05\x02\x01\x01"),
        (b"\x05\x01\x02\x01\x02ME\x06s:cret", b"\x05\x02\x01\x01"),
        (socks4a(SITE, 80), b"\x00\x5b" + bytes(6)),
    ],
)
async def test_without_the_password_a_client_is_refused(words: bytes, answer: bytes) -> None:
    async with running_inbound(GUARDED) as inbound:
        client = await inbound.connect()
        await client.send(words)
        assert await client.receive_all() == answer
        assert inbound.outbound.asked == []
        client.close()


async def test_http_asks_for_the_password() -> None:
    async with running_inbound(GUARDED) as inbound:
        for wrong in (b"X: y", b"Proxy-Authorization: Basic bWU6bm8="):
            client = await inbound.connect()
            await client.send(connect(80, wrong))
            answer = await client.receive_all()
            assert answer.startswith(b"HTTP/1.1 407 ")
            assert b"\r\nProxy-Authenticate: Basic " in answer
            client.close()


async def test_http_with_the_right_password() -> None:
    async with destination(echo) as port, running_inbound(GUARDED) as inbound:
        client = await inbound.connect()
        await client.send(connect(port, b"Proxy-Authorization: Basic " + BASIC) + b"hello")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await client.receive(5) == b"hello"
        client.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_address_that_others_reach_needs_a_password(host: str) -> None:
    with pytest.raises(ConfigError, match="password"):
        InboundOptions(host)
    assert InboundOptions(host, credentials=CREDENTIALS).addresses == (host,)


def test_a_password_never_shows() -> None:
    assert "s:cret" not in repr(GUARDED)


# --- SOCKS4 ------------------------------------------------------------------------------------


async def test_socks4a_leads_to_a_name() -> None:
    async with destination(echo) as port, running_inbound() as inbound:
        for send in (Client.send, Client.send_slowly):
            client = await inbound.connect()
            await send(client, socks4a(SITE, port) + b"hello")
            assert await client.receive(13) == b"\x00\x5a" + bytes(6) + b"hello"
            client.close()


async def test_socks4_has_one_refusal() -> None:
    async with running_inbound() as inbound:
        inbound.outbound.failure = DestinationError(Reason.REFUSED)
        for words in (socks4a(SITE, 80), socks4a("a b", 80), b"\x04\x02" + bytes(7)):
            client = await inbound.connect()
            await client.send(words)
            assert await client.receive_all() == b"\x00\x5b" + bytes(6)
            client.close()


# --- HTTP CONNECT ------------------------------------------------------------------------------


async def test_connect_with_data_behind_loses_nothing() -> None:
    async with destination(echo) as port, running_inbound() as inbound:
        for send in (Client.send, Client.send_slowly):
            client = await inbound.connect()
            await send(client, connect(port) + b"hello")
            await client.reader.readuntil(b"\r\n\r\n")
            assert await client.receive(5) == b"hello"
            client.close()


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (DestinationError(Reason.REFUSED), b"502"),
        (DestinationError(Reason.TIMED_OUT), b"504"),
        (NoTunnelError("none"), b"503"),
        (DialError("lost"), b"502"),
    ],
)
async def test_http_gives_the_true_reason(failure: CircumventError, status: bytes) -> None:
    async with running_inbound() as inbound:
        inbound.outbound.failure = failure
        for request in (connect(80), b"GET http://site.test/ HTTP/1.1\r\nHost: x\r\n\r\n"):
            client = await inbound.connect()
            await client.send(request)
            head, _, body = (await client.receive_all()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)
            assert b"Content-Length: %d" % len(body) in head
            assert SITE.encode() not in body
            client.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"CONNECT nowhere HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET https://x/ HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GARBAGE\r\n\r\n", b"400"),
        (b"TRACE http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"GET http://x/ HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"431"),
    ],
)
async def test_http_refuses_what_it_cannot_do(request_: bytes, status: bytes) -> None:
    async with running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(request_)
        assert (await client.receive_all()).startswith(b"HTTP/1.1 " + status)
        assert inbound.outbound.asked == []
        client.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1080\r\n\r\n",
        b"GET /" + b"a" * 70_000,
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
    ],
)
async def test_a_web_page_that_looks_for_the_port_gets_no_answer(request_: bytes) -> None:
    async with running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(request_)
        with pytest.raises(ConnectionResetError):
            await client.receive_all()
        client.close()
