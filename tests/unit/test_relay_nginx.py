"""To a prober of TLS the relay is the nginx that serves its cover site."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress

import pytest

from tests.unit.relay_fixture import LOOPBACK, RunningRelay, Site, running_listener

ANSWER = b"HTTP/1.1 %b\r\nServer: %b\r\nDate: now\r\nContent-Length: 2\r\n\r\nok"
PLAIN = b"400 The plain HTTP request was sent to HTTPS port"
ALERT = b"\x15\x03\x03\x00\x02\x02\x78"
SERVER_HELLO = b"\x16\x03\x03"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Serve = Callable[[Site, asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


def site_named(name: bytes, status: bytes = b"200 OK") -> Serve:
    async def serve(site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        site.writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(ANSWER % (status, name))
                if status != b"200 OK":
                    break
        writer.close()

    return serve


async def answer_to(relay: RunningRelay, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(LOOPBACK, relay.address.port)
    writer.write(data)
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.transport.abort()


def hello(*protocols: str) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="site.test")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.fixture
def use_site(monkeypatch: pytest.MonkeyPatch) -> Callable[[Serve], None]:
    return lambda serve: monkeypatch.setattr(Site, "serve", serve)


async def test_http_without_tls_gets_nginx_page(use_site: Callable[[Serve], None]) -> None:
    use_site(site_named(b"nginx/1.22.1"))
    async with running_listener() as relay:
        answer = await answer_to(relay, GET)
    head, _, page = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\nDate: now\r\n")
    assert b"Content-Length: %d\r\nConnection: close" % len(page) in head
    assert PLAIN in page
    assert page.endswith(b"<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n")


async def test_the_sites_own_error_is_passed_on(use_site: Callable[[Serve], None]) -> None:
    use_site(site_named(b"nginx", b"400 Bad Request"))
    async with running_listener() as relay:
        assert await answer_to(relay, GET) == ANSWER % (b"400 Bad Request", b"nginx")


async def test_unknown_protocols_get_an_alert(use_site: Callable[[Serve], None]) -> None:
    use_site(site_named(b"nginx"))
    async with running_listener() as relay:
        assert await answer_to(relay, hello("h2", "h3")) == ALERT
        for one_of_many in (hello("h2", "http/1.1"), hello("http/1.0"), hello()):
            assert (await answer_to(relay, one_of_many)).startswith(b"\x16\x03\x03")


async def test_a_hello_may_come_in_pieces(use_site: Callable[[Serve], None]) -> None:
    use_site(site_named(b"nginx"))
    async with running_listener() as relay:
        for data, begin in ((hello("h2"), ALERT), (hello("http/1.1"), b"\x16\x03\x03")):
            reader, writer = await asyncio.open_connection(LOOPBACK, relay.address.port)
            for at in range(0, len(data), 100):
                writer.write(data[at : at + 100])
                await asyncio.sleep(0.002)
            assert await reader.readexactly(len(begin)) == begin
            writer.transport.abort()


async def test_another_web_servers_tls_is_openssls(use_site: Callable[[Serve], None]) -> None:
    use_site(site_named(b"Apache"))
    async with running_listener() as relay:
        assert await answer_to(relay, GET) == b""
        assert (await answer_to(relay, hello("h2"))).startswith(b"\x16\x03\x03")


def in_records(hello: bytes, size: int, padding: int = 0) -> bytes:
    """The same ClientHello in records of so many bytes, and made longer."""
    message = hello[9:]
    if padding:
        at = 34 + 1 + message[34]  # behind the session's number
        at += 2 + int.from_bytes(message[at : at + 2])
        at += 1 + message[at]
        extensions = message[at + 2 :] + b"\xfa\xfa" + padding.to_bytes(2) + bytes(padding)
        message = message[:at] + len(extensions).to_bytes(2) + extensions
    message = b"\x01" + len(message).to_bytes(3) + message
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)


@pytest.mark.parametrize(("size", "padding"), [(1, 0), (100, 0), (16_000, 20_000)])
async def test_protocols_are_seen_however_a_hello_is_cut(
    use_site: Callable[[Serve], None], size: int, padding: int
) -> None:
    use_site(site_named(b"nginx"))
    async with running_listener() as relay:
        assert await answer_to(relay, in_records(hello("h2"), size, padding)) == ALERT
        fitting = await answer_to(relay, in_records(hello("http/1.1"), size, padding))
        assert fitting.startswith(SERVER_HELLO)


async def test_a_long_hello_that_comes_in_pieces_is_answered(
    use_site: Callable[[Serve], None],
) -> None:
    use_site(site_named(b"nginx"))
    data = in_records(hello("http/1.1"), 16_000, 20_000)
    async with running_listener() as relay:
        reader, writer = await asyncio.open_connection(LOOPBACK, relay.address.port)
        for start in range(0, len(data), 4000):
            writer.write(data[start : start + 4000])
            await asyncio.sleep(0.005)
        assert await asyncio.wait_for(reader.readexactly(len(SERVER_HELLO)), 5) == SERVER_HELLO
        writer.transport.abort()


async def test_another_error_in_a_hello_is_reported_first(
    use_site: Callable[[Serve], None],
) -> None:
    use_site(site_named(b"nginx"))
    of_no_version = hello("h2").replace(b"\x03\x03", b"\x02\x00", 1)
    async with running_listener() as relay:
        assert (await answer_to(relay, of_no_version))[-1:] == b"\x46"  # protocol_version
