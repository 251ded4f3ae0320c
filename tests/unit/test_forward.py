"""Plain HTTP through the inbound: connections, requests and answers as they should be."""

import asyncio

from tests.unit.http_site import BIG, TRAILED, answer, ask, site
from tests.unit.inbound_client import (
    SITE,
    destination,
    running_inbound,
)
from tests.unit.local_sockets import until


async def test_the_origin_sees_its_own_path_and_host_and_nothing_of_the_hop() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        hop = ("Proxy-Connection: keep-alive", "Connection: x-hop", "X-Hop: 1", "TE: trailers")
        await client.send(ask(port, "/a?b=c", *hop, "Proxy-Authorization: Basic eA==", "X-Kept: 1"))
        _, seen = await answer(client)
        expected = ["GET /a?b=c HTTP/1.1", f"Host: {SITE}:{port}", "X-Kept: 1", "Connection: close"]
        assert seen.decode().split("\r\n") == [*expected, "", ""]
        client.close()


async def test_one_connection_serves_several_origins() -> None:
    async with destination(site) as one, destination(site) as two, running_inbound() as inbound:
        client = await inbound.connect()
        for port, path in ((one, "/a"), (two, "/chunked"), (one, "/204"), (two, "/b")):
            await client.send(ask(port, path))
            response, _ = await answer(client)
            assert response.status_code in {200, 204}
        assert [asked.port for asked in inbound.outbound.asked] == [one, two, one, two]
        client.close()


async def test_a_big_body_comes_down_to_a_slow_reader_within_the_budget() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        before = inbound.memory.leased
        await client.send(ask(port, "/big"))
        await asyncio.sleep(0.05)
        await until(lambda: inbound.memory.leased == before)  # nobody reads
        _, body = await answer(client)
        assert body == b"x" * BIG
        client.close()


async def test_the_framing_fits_the_client() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        expected = {
            ("/chunked", "1.1"): (b"Transfer-Encoding: chunked", TRAILED),
            ("/chunked", "1.0"): (b"Connection: close", b"hello" * 3),
            ("/old", "1.1"): (b"Connection: close", b"old style"),
            ("/old", "1.0"): (b"Connection: close", b"old style"),
        }
        for (path, version), (framing, body) in expected.items():
            client = await inbound.connect()
            await client.send(ask(port, path, version=version))
            client.writer.write_eof()  # all is asked, which is not to leave
            head, _, got = (await client.receive_all()).partition(b"\r\n\r\n")
            assert head.split(b"\r\n") == [b"HTTP/1.1 200 OK", framing]
            assert got == body
            client.close()


async def test_an_answer_before_the_end_of_the_request_arrives() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, "/early", "Content-Length: 100000", method="POST") + b"x" * 50)
        response, body = await answer(client)
        assert (response.status_code, body) == (413, b"no")
        assert await client.receive_all() == b""
        client.close()


async def test_an_upgrade_becomes_a_raw_pipe() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, "/upgrade", "Connection: Upgrade", "Upgrade: echo"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nUpgrade: echo\r\n" in head
        await client.send(b"anything")
        assert await client.receive(14) == b"ready anything"
        client.writer.write_eof()
        assert await client.receive_all() == b""
        client.close()


async def test_a_connect_may_follow_on_the_same_connection() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, "/a"))
        await answer(client)
        await client.send(f"CONNECT {SITE}:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert b" 200 " in await client.reader.readuntil(b"\r\n\r\n")
        await client.send(b"GET /204 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 204 " in await client.reader.readuntil(b"\r\n\r\n")
        client.close()


async def test_while_draining_every_answer_says_that_it_is_the_last() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, "/sum", "Content-Length: 3", method="POST"))
        await asyncio.sleep(0.02)
        drained = asyncio.create_task(inbound.server.drain())
        await asyncio.sleep(0)
        await client.send(b"abc")
        assert b"\r\nConnection: close\r\n" in await client.receive_all()
        client.close()
        await drained


async def test_clients_may_leave_at_any_point() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        words = ask(port, "/sum", "Content-Length: 9", method="POST") + b"123"
        for end in range(0, len(words), 3):
            client = await inbound.connect()
            await client.send(words[:end])
            client.reset() if end % 2 else client.close()
        await until(lambda: inbound.server.clients == 0)


async def test_drain_does_not_wait_for_clients_between_two_requests() -> None:
    async with destination(site) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(ask(port, "/a"))
        await answer(client)
        await inbound.server.drain()
        client.close()
