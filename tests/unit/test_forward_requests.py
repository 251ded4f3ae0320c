"""Plain HTTP through the inbound: what a request may be, and where its body ends."""

import hashlib

import pytest

from circumvent.inbound.options import InboundOptions
from tests.unit.http_site import BIG, answer, ask, site
from tests.unit.inbound_client import (
    CREDENTIALS,
    SITE,
    destination,
    running_inbound,
)


async def test_pipelined_requests_are_answered_in_turn() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        post = ask(port, "/sum", "Content-Length: 3", method="POST") + b"abc"
        await client.send(post + post + ask(port, "/204", "Connection: close"))
        answers = await client.receive_all()
        assert answers.count(hashlib.sha256(b"abc").hexdigest().encode()) == 2
        assert b"204 No Content" in answers
        client.close()


@pytest.mark.parametrize("framing", ["Content-Length: 3000000", "Transfer-Encoding: chunked"])
async def test_a_big_body_goes_up(framing: str) -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        body = b"x" * BIG
        await client.send(ask(port, "/sum", framing, method="POST"))
        if "chunked" in framing:
            piece = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
            await client.send(piece * 30 + b"0\r\nTrailer: 1\r\n\r\n")
        else:
            await client.send(body)
        _, digest = await answer(client)
        assert digest.decode() == hashlib.sha256(body).hexdigest()
        client.close()


async def test_expect_100_continue() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        headers = ("Expect: 100-continue", "Content-Length: 3")
        await client.send(ask(port, "/sum", *headers, method="POST"))
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await client.send(b"abc")
        _, digest = await answer(client)
        assert digest.decode() == hashlib.sha256(b"abc").hexdigest()
        client.close()


async def test_a_broken_request_body_is_a_bad_request() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        head = ask(port, "/sum", "Transfer-Encoding: chunked", method="POST")
        await client.send(head + b"not hexadecimal\r\n")
        response, _ = await answer(client)
        assert response.status_code == 400
        client.close()


async def test_a_target_goes_on_with_its_raw_bytes() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, "/ü/文件"))
        _, seen = await answer(client)
        assert seen.startswith("GET /ü/文件 HTTP/1.1\r\n".encode())
        client.close()


@pytest.mark.parametrize("framing", ["Content-Length: 3", "Transfer-Encoding: chunked"])
async def test_what_follows_a_body_is_the_next_request(framing: str) -> None:
    async with destination(site) as port, running_inbound() as inbound:
        body = b"abc" if "Length" in framing else b"3\r\nabc\r\n0\r\nA: b\r\n\r\n"
        post = ask(port, "/sum", framing, method="POST") + body + b"\r\n"
        tunnel = f"CONNECT {SITE}:{port} HTTP/1.1\r\n\r\n".encode()
        client = await inbound.connect()
        await client.send(b"\r\n" + post + post + tunnel + b"GET /204 HTTP/1.1\r\n\r\n")
        for _ in range(2):
            _, digest = await answer(client)
            assert digest.decode() == hashlib.sha256(b"abc").hexdigest()
        assert b" 200 " in await client.reader.readuntil(b"\r\n\r\n")
        assert b" 204 " in await client.reader.readuntil(b"\r\n\r\n")
        client.close()


@pytest.mark.parametrize(
    "body", [b"5\r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n", b"0\r\nHost: x\r\n\r\n"]
)
async def test_a_misframed_body_never_becomes_another_request(body: bytes) -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        smuggled = ask(port, "/a")
        await client.send(
            ask(port, "/sum", "Transfer-Encoding: chunked", method="POST") + body + smuggled
        )
        assert (await client.receive_all()).startswith(b"HTTP/1.1 400 ")
        assert len(inbound.outbound.asked) == 1
        client.close()


async def test_a_body_that_its_client_breaks_off_is_a_bad_request() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, "/sum", "Content-Length: 9", method="POST") + b"half")
        client.writer.write_eof()
        assert (await client.receive_all()).startswith(b"HTTP/1.1 400 ")
        client.close()


async def test_every_request_needs_the_password() -> None:
    async with (
        destination(site) as port,
        running_inbound(InboundOptions(port=0, credentials=CREDENTIALS)) as inbound,
    ):
        client = await inbound.connect()
        await client.send(ask(port, "/a", "Proxy-Authorization: Basic bWU6czpjcmV0"))
        response, seen = await answer(client)
        assert response.status_code == 200
        assert b"bWU6czpjcmV0" not in seen
        await client.send(ask(port, "/a"))
        response, _ = await answer(client)
        assert response.status_code == 407
        client.close()
