"""Clients that leave, at any point and in any way, and those that only send no more."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import replace

import pytest

from circumvent.inbound.options import InboundOptions, InboundTimings
from circumvent.net.sockets import SocketBuffers
from tests.unit.inbound_client import (
    CREDENTIALS,
    GREETING,
    RESET,
    SITE,
    Client,
    RunningInbound,
    destination,
    echo,
    running_inbound,
    socks4a,
    socks5,
)
from tests.unit.test_inbound_limits import no_descriptors_left

LOOK = 0.01  # seconds
SOON = 50.0  # seconds, far more than anything here takes, on a busy machine too
TIMINGS = InboundTimings(look=LOOK)
OPTIONS = InboundOptions(port=0, timings=TIMINGS)
TUNNELS = ("SOCKS5", "SOCKS4a", "CONNECT")
PLAIN = ("waiting", "with a body", "mid-answer", "upgraded")


class Silent:
    """A destination that reads a head, sends no more than it must, and waits for ``speak``."""

    def __init__(self) -> None:
        self.asked = 0
        self.speak = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        words = b"HTTP/1.1 200 OK\r\n\r\nall of it"
        if b"Upgrade" in head:
            writer.write(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nready")
        elif b"mid-answer" in head:
            writer.write(words[:-9] + b"ready, ")
            words = words[-9:]
        hearing = asyncio.create_task(self._hear_out(reader))
        await self.speak.wait()
        writer.write(words)
        hearing.cancel()

    async def _hear_out(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        self.left.set()


async def arrive(inbound: RunningInbound, port: int, way: str) -> Client:
    """A client that has asked for something."""
    client = await inbound.connect()
    if way == "SOCKS5":
        await client.send(GREETING + socks5(SITE, port))
        await client.receive(12)
    elif way == "SOCKS4a":
        await client.send(socks4a(SITE, port))
        await client.receive(8)
    elif way == "CONNECT":
        await client.send(f"CONNECT {SITE}:{port} HTTP/1.1\r\n\r\n".encode())
        await client.reader.readuntil(b"\r\n\r\n")
    if way in TUNNELS:
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        return client
    lines = [f"GET http://{SITE}:{port}/{way.partition(' ')[0]} HTTP/1.1"]
    if way == "upgraded":
        lines += ["Connection: Upgrade", "Upgrade: x"]
    elif way == "with a body":
        lines += ["Content-Length: 3"]
    await client.send("\r\n".join([*lines, "", "abc" if way == "with a body" else ""]).encode())
    if way in {"mid-answer", "upgraded"}:
        await client.reader.readuntil(b"ready")
    return client


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - nobody tells when somebody has left
            await asyncio.sleep(LOOK / 4)


@pytest.mark.parametrize("way", TUNNELS + PLAIN)
@pytest.mark.parametrize("leave", [Client.close, Client.reset])
async def test_a_client_that_left_is_noticed_although_the_other_side_is_silent(
    way: str, leave: Callable[[Client], None]
) -> None:
    silent = Silent()
    async with destination(silent) as port, running_inbound(OPTIONS) as inbound:
        client = await arrive(inbound, port, way)
        await until(lambda: silent.asked == 1)
        leave(client)
        await until(lambda: inbound.server.clients == 0)
        async with asyncio.timeout(SOON):
            await silent.left.wait()
        silent.speak.set()


@pytest.mark.parametrize("way", TUNNELS + PLAIN)
async def test_a_client_that_only_ended_its_side_gets_its_whole_answer(way: str) -> None:
    silent = Silent()
    async with destination(silent) as port, running_inbound(OPTIONS) as inbound:
        client = await arrive(inbound, port, way)
        client.writer.write_eof()
        await until(lambda: silent.asked == 1)
        await asyncio.sleep(5 * LOOK)
        silent.speak.set()
        assert (await client.receive_all()).endswith(b"all of it")
        client.close()
        await until(lambda: inbound.server.clients == 0)


async def test_at_a_socket_of_both_families() -> None:
    silent = Silent()
    options = InboundOptions("::", 0, CREDENTIALS, timings=TIMINGS)
    async with destination(silent) as port, running_inbound(options) as inbound:
        request = f"GET http://{SITE}:{port}/ HTTP/1.1\r\n"
        request += "Proxy-Authorization: Basic bWU6czpjcmV0\r\n\r\n"
        for host in ("127.0.0.1", "::1"):
            stays, leaves = [
                Client(*await asyncio.open_connection(host, inbound.port)) for _ in range(2)
            ]
            for client in (stays, leaves):
                await client.send(request.encode())
            stays.writer.write_eof()
            leaves.close()
            await until(lambda: inbound.server.clients == 1)
            await asyncio.sleep(3 * LOOK)
            assert inbound.server.clients == 1
            stays.close()
            await until(lambda: inbound.server.clients == 0)
        silent.speak.set()


@pytest.mark.parametrize(("half_closed", "stays"), [(120.0, True), (0.05, False)])
async def test_an_end_whose_sender_cannot_be_seen_is_given_some_time(
    half_closed: float, *, stays: bool
) -> None:
    silent = Silent()
    options = replace(OPTIONS, timings=replace(TIMINGS, half_closed=half_closed))
    async with destination(silent) as port, running_inbound(options) as inbound:
        client = await arrive(inbound, port, "waiting")
        await until(lambda: silent.asked == 1)
        client.close()
        with no_descriptors_left():  # to ask the kernel takes one
            if stays:
                await asyncio.sleep(3 * LOOK)
                assert inbound.server.clients == 1
            else:
                await until(lambda: inbound.server.clients == 0)
        silent.speak.set()


async def stuff(sock: socket.socket) -> None:
    """Send until all buffers on the way are full."""
    blocked = 0
    while blocked < 3:
        try:
            sock.send(bytes(1 << 16))
            blocked = 0
        except BlockingIOError:
            blocked += 1
            await asyncio.sleep(LOOK)


@pytest.mark.parametrize("way", ["SOCKS5", "HTTP"])
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_client_that_left_in_an_upload_that_does_not_move_is_noticed(
    way: str, end: str
) -> None:
    timings = replace(TIMINGS, delivery=0.1 if end == "close" else 2 * SOON)
    options = replace(OPTIONS, buffers=SocketBuffers(1 << 16, 1 << 16), timings=timings)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        async with running_inbound(options) as inbound:
            with socket.create_connection(("127.0.0.1", inbound.port)) as sock:
                sock.setblocking(False)
                post = f"POST http://{SITE}:{port}/ HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n"
                sock.send(GREETING + socks5(SITE, port) if way == "SOCKS5" else post.encode())
                await stuff(sock)
                assert inbound.server.clients == 1
                if end == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            await until(lambda: inbound.server.clients == 0)


async def test_what_a_client_sent_before_it_closed_arrives() -> None:
    heard = asyncio.get_running_loop().create_future()

    async def slow(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        size = 0
        while data := await reader.read(1 << 15):
            size += len(data)
            await asyncio.sleep(LOOK / 10)
        heard.set_result(size)

    async with destination(slow) as port, running_inbound(OPTIONS) as inbound:
        client = await inbound.connect()
        await client.send(GREETING + socks5(SITE, port))
        await client.receive(12)
        client.writer.write(bytes(2_000_000))
        client.close()
        assert await asyncio.wait_for(heard, SOON) == 2_000_000
        await until(lambda: inbound.server.clients == 0)


async def test_of_many_requests_at_once_only_one_is_asked_before_the_client_leaves() -> None:
    silent = Silent()
    async with destination(silent) as port, running_inbound(OPTIONS) as inbound:
        client = await inbound.connect()
        await client.send(f"GET http://{SITE}:{port}/ HTTP/1.1\r\n\r\n".encode() * 100)
        await until(lambda: silent.asked == 1)
        client.close()
        await until(lambda: inbound.server.clients == 0)
        assert (silent.asked, len(inbound.outbound.asked)) == (1, 1)
        silent.speak.set()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(bytes(1 << 16))
        await writer.drain()


async def test_two_hundred_bad_clients_leave_nothing_behind() -> None:
    silent = Silent()
    async with (
        destination(silent) as quiet,
        destination(endless) as loud,
        running_inbound(OPTIONS) as inbound,
    ):
        before = inbound.memory.leased
        head = f"POST http://{SITE}:{quiet}/ HTTP/1.1\r\nContent-Length: 99\r\n"
        words = [
            f"GET http://{SITE}:{quiet}/ HTTP/1.1\r\n\r\n",
            head,
            f"{head}\r\nhalf of it",
            f"GET http://{SITE}:{loud}/ HTTP/1.1\r\n\r\n",
        ]
        clients = [await inbound.connect() for _ in range(200)]
        for number, client in enumerate(clients):
            await client.send(words[number % len(words)].encode())
        await until(lambda: len(inbound.outbound.asked) == 150)
        assert inbound.server.clients == 200
        for number, client in enumerate(clients):
            client.reset() if number % 3 else client.close()
        await until(lambda: inbound.server.clients == 0)
        assert (inbound.memory.leased, inbound.memory.charged) == (before, 0)
        silent.speak.set()


async def test_clients_that_wait_for_an_answer_hold_no_memory_and_delay_no_other() -> None:
    silent = Silent()
    async with (
        destination(silent) as quiet,
        destination(echo) as port,
        running_inbound(OPTIONS) as inbound,
    ):
        before = inbound.memory.leased
        clients = [await arrive(inbound, quiet, PLAIN[number % 4]) for number in range(100)]
        await until(lambda: silent.asked == 100)
        assert (inbound.memory.leased, inbound.memory.charged) == (before, 0)
        client = await inbound.connect()
        await client.send(GREETING + socks5(SITE, port) + b"hello")
        assert (await client.receive(17)).endswith(b"hello")
        for each in (*clients, client):
            each.close()
        silent.speak.set()
