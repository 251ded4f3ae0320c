"""Plain HTTP through the inbound: answers that are odd, late, cut or no HTTP."""

import asyncio
from urllib.parse import quote

import pytest

from circumvent.errors import BudgetError
from circumvent.inbound.options import InboundOptions, InboundTimings
from tests.unit.http_site import OK, answer, ask, site
from tests.unit.inbound_client import (
    SITE,
    cut_short,
    destination,
    running_inbound,
)


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/a"), ("GET", "/204"), ("GET", "/304")])
async def test_answers_without_a_body(method: str, path: str) -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        for _ in range(2):
            await client.send(ask(port, path, method=method))
            response, body = await answer(client, method.encode())
            assert body == b""
            assert response.status_code == int(path[1:]) if path != "/a" else 200
        client.close()


async def test_hop_by_hop_headers_of_the_origin_stay_with_it() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, "/hop"))
        response, _ = await answer(client)
        expected = [(b"X-Case", b"kept"), (b"Content-Length", b"0")]
        assert response.headers.raw_items() == expected
        client.close()


async def test_no_answer_is_a_bad_gateway() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, "/nothing"))
        response, _ = await answer(client)
        assert response.status_code == 502
        client.close()


async def test_a_truncated_answer_is_a_reset() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, "/truncated"))
        with pytest.raises(ConnectionResetError):
            await client.receive_all()


COOKIES = b"".join(b"Set-Cookie: c%d=%b\r\n" % (number, b"v" * 3000) for number in range(80))


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (
            OK + b"X-Odd : 1\r\nPHP Warning: x\r\nContent-Length: 2\r\n\r\nok",
            OK + b"X-Odd: 1\r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            b"\r\nhttp/1.0 200\nContent-Length: 2, 2\n\nok and more that is not meant",
            b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            OK
            + b"Transfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n02 ;a\r\nok\r\n0\r\n\r\n+",
            OK + b"Transfer-Encoding: chunked\r\n\r\n02 ;a\r\nok\r\n0\r\n\r\n",
        ),
        (
            b"HTTP/1.1 103 Soon\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nokRESET",
            b"HTTP/1.1 103 Soon\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
        ),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nRESET",
            OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        (b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nno", b"HTTP/1.1 204 No\r\n\r\n"),
    ],
)
async def test_an_odd_answer_is_written_out_plainly_and_the_next_one_is_its_own(
    sent: bytes, seen: bytes
) -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, f"/odd?{quote(sent)}"))
        assert await client.receive(len(seen)) == seen
        await client.send(ask(port, "/304", "Connection: close"))
        assert (await client.receive_all()).startswith(b"HTTP/1.1 304 Not Modified\r\n")
        client.close()


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"", b"there is none"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"ends before its head does"),
        (b"SSH-2.0-x\r\n", b"not of the form HTTP/1.1 STATUS REASON"),
        (b"HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b"nobody asked for"),
        (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", b"different lengths"),
        (b"HTTP/1.1 100 Continue\r\n\r\nSSH-2.0-x\r\n", b"not of the form"),
    ],
)
async def test_an_answer_that_is_not_http_is_blamed_on_the_destination(
    sent: bytes, text: bytes
) -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, f"/odd?{quote(sent)}"))
        said = await client.receive_all()
        assert b"HTTP/1.1 502 Bad Gateway\r\n" in said
        assert b"the destination's answer is not proper HTTP" in said
        assert text in said
        assert b"tunnel" not in said
        client.close()


async def test_a_stream_that_breaks_before_the_answer_is_blamed_on_the_tunnel() -> None:
    async with destination(cut_short) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, "/"))
        assert b"the tunnel failed" in await client.receive_all()
        client.close()


@pytest.mark.parametrize(
    "sent",
    [
        OK + b"\r\nit goes on untilRESET",
        OK + b"Content-Length: 9\r\n\r\nshort",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nlonger\r\n0\r\n\r\n",
    ],
)
async def test_an_answer_that_was_cut_ends_in_a_reset(sent: bytes) -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, f"/odd?{quote(sent)}"))
        with pytest.raises(ConnectionResetError):
            await client.receive_all()


async def test_a_long_head_comes_in_many_pieces() -> None:
    async def spell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        words = OK + COOKIES + b"Content-Length: 2\r\n\r\nok"
        for at in range(0, len(words), 40_000):
            writer.write(words[at : at + 40_000])
            await writer.drain()
            await asyncio.sleep(0.001)

    async with destination(spell) as port, running_inbound() as inbound:
        before = inbound.memory.leased
        client = await inbound.connect()
        await client.send(ask(port, "/"))
        seen = OK + COOKIES + b"Content-Length: 2\r\n\r\nok"
        assert await client.receive(len(seen)) == seen
        assert inbound.memory.leased == before
        client.close()


@pytest.mark.parametrize(("size", "status"), [(300_000, b"502"), (200_000, b"503")])
async def test_a_head_without_end_or_without_memory_is_explained(size: int, status: bytes) -> None:
    async def drone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"X: " + b"y" * size)
        await reader.read()

    async with destination(drone) as port, running_inbound() as inbound:
        account = inbound.memory.accounts["inbound"]
        if status == b"503":
            account.limit = account.durable + 100_000
        client = await inbound.connect()
        await client.send(ask(port, "/"))
        said = await client.receive_all()
        assert said.startswith(b"HTTP/1.1 " + status)
        assert (b"256 KiB" if status == b"502" else b"out of memory") in said
        client.close()


async def test_a_head_that_stops_half_way_is_not_kept_for_ever() -> None:
    async def stop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"X: ")
        await reader.read()

    options = InboundOptions(port=0, timings=InboundTimings(answer_head=0.02))
    async with destination(stop) as port, running_inbound(options) as inbound:
        client = await inbound.connect()
        await client.send(ask(port, "/"))
        assert b"HTTP/1.1 504 " in await client.receive_all()
        client.close()


async def test_without_memory_for_a_stream_the_client_is_told_what_to_do() -> None:
    async with running_inbound() as inbound:
        inbound.outbound.failure = BudgetError("no room")
        for request in (ask(80, "/"), f"CONNECT {SITE}:80 HTTP/1.1\r\n\r\n".encode()):
            client = await inbound.connect()
            await client.send(request)
            said = await client.receive_all()
            assert said.startswith(b"HTTP/1.1 503 ")
            assert b"out of memory: close other connections, or give it more" in said
            client.close()


async def test_an_old_client_gets_no_informational_answers() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        early_hints = quote(b"HTTP/1.1 103 Soon\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok")
        await client.send(ask(port, f"/odd?{early_hints}", version="1.0"))
        seen = OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok"
        assert await client.receive_all() == seen
        client.close()
