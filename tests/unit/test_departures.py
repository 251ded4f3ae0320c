"""Clients that leave, at any point and in any way, and those that only have said all."""

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
    Caller,
    Home,
    destination,
    echo,
    home,
    socks4a,
    socks5,
)
from tests.unit.test_inbound_limits import no_descriptors_left

LOOK = 0.02  # seconds
SOON = 20.0  # seconds, far more than anything here takes
TIMINGS = InboundTimings(look=LOOK)
OPTIONS = InboundOptions(port=0, timings=TIMINGS)
TUNNELS = ("SOCKS5", "SOCKS4a", "CONNECT")
PLAIN = ("waiting", "with a body", "mid-answer", "upgraded")


class Silent:
    """A destination that hears a head, says no more than it must, and waits for ``speak``."""

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


async def arrive(house: Home, port: int, way: str) -> Caller:
    """A client that has asked for something."""
    caller = await house.knock()
    if way == "SOCKS5":
        await caller.say(GREETING + socks5(SITE, port))
        await caller.hear(12)
    elif way == "SOCKS4a":
        await caller.say(socks4a(SITE, port))
        await caller.hear(8)
    elif way == "CONNECT":
        await caller.say(f"CONNECT {SITE}:{port} HTTP/1.1\r\n\r\n".encode())
        await caller.reader.readuntil(b"\r\n\r\n")
    if way in TUNNELS:
        await caller.say(b"GET / HTTP/1.1\r\n\r\n")
        return caller
    lines = [f"GET http://{SITE}:{port}/{way.partition(' ')[0]} HTTP/1.1"]
    if way == "upgraded":
        lines += ["Connection: Upgrade", "Upgrade: x"]
    elif way == "with a body":
        lines += ["Content-Length: 3"]
    await caller.say("\r\n".join([*lines, "", "abc" if way == "with a body" else ""]).encode())
    if way in {"mid-answer", "upgraded"}:
        await caller.reader.readuntil(b"ready")
    return caller


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - nobody tells when somebody has left
            await asyncio.sleep(LOOK / 4)


@pytest.mark.parametrize("way", TUNNELS + PLAIN)
@pytest.mark.parametrize("leave", [Caller.hang_up, Caller.leave_with_a_reset])
async def test_whoever_left_is_noticed_although_the_other_side_says_nothing(
    way: str, leave: Callable[[Caller], None]
) -> None:
    silent = Silent()
    async with destination(silent) as port, home(OPTIONS) as house:
        caller = await arrive(house, port, way)
        await until(lambda: silent.asked == 1)
        leave(caller)
        await until(lambda: house.door.clients == 0)
        async with asyncio.timeout(SOON):
            await silent.left.wait()
        silent.speak.set()


@pytest.mark.parametrize("way", TUNNELS + PLAIN)
async def test_whoever_only_said_all_gets_its_whole_answer(way: str) -> None:
    silent = Silent()
    async with destination(silent) as port, home(OPTIONS) as house:
        caller = await arrive(house, port, way)
        caller.writer.write_eof()
        await until(lambda: silent.asked == 1)
        await asyncio.sleep(5 * LOOK)
        silent.speak.set()
        assert (await caller.hear_out()).endswith(b"all of it")
        caller.hang_up()
        await until(lambda: house.door.clients == 0)


async def test_at_a_socket_of_both_families_too() -> None:
    silent = Silent()
    options = InboundOptions("::", 0, CREDENTIALS, timings=TIMINGS)
    async with destination(silent) as port, home(options) as house:
        request = f"GET http://{SITE}:{port}/ HTTP/1.1\r\n"
        request += "Proxy-Authorization: Basic bWU6czpjcmV0\r\n\r\n"
        for host in ("127.0.0.1", "::1"):
            stays, leaves = [
                Caller(*await asyncio.open_connection(host, house.port)) for _ in range(2)
            ]
            for caller in (stays, leaves):
                await caller.say(request.encode())
            stays.writer.write_eof()
            leaves.hang_up()
            await until(lambda: house.door.clients == 1)
            await asyncio.sleep(3 * LOOK)
            assert house.door.clients == 1
            stays.hang_up()
            await until(lambda: house.door.clients == 0)
        silent.speak.set()


@pytest.mark.parametrize(("half_closed", "stays"), [(120.0, True), (0.05, False)])
async def test_an_end_whose_sender_cannot_be_seen_is_given_some_time(
    half_closed: float, *, stays: bool
) -> None:
    silent = Silent()
    options = replace(OPTIONS, timings=replace(TIMINGS, half_closed=half_closed))
    async with destination(silent) as port, home(options) as house:
        caller = await arrive(house, port, "waiting")
        await until(lambda: silent.asked == 1)
        caller.hang_up()
        with no_descriptors_left():  # to ask the kernel takes one
            if stays:
                await asyncio.sleep(3 * LOOK)
                assert house.door.clients == 1
            else:
                await until(lambda: house.door.clients == 0)
        silent.speak.set()


async def stuff(sock: socket.socket) -> None:
    """Say things until all buffers on the way are full."""
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
async def test_whoever_left_in_an_upload_that_nobody_takes_is_noticed(way: str, end: str) -> None:
    timings = replace(TIMINGS, delivery=0.1 if end == "close" else 2 * SOON)
    options = replace(OPTIONS, buffers=SocketBuffers(1 << 16, 1 << 16), timings=timings)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        async with home(options) as house:
            with socket.create_connection(("127.0.0.1", house.port)) as sock:
                sock.setblocking(False)
                post = f"POST http://{SITE}:{port}/ HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n"
                sock.send(GREETING + socks5(SITE, port) if way == "SOCKS5" else post.encode())
                await stuff(sock)
                assert house.door.clients == 1
                if end == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            await until(lambda: house.door.clients == 0)


async def test_what_a_client_said_before_it_closed_arrives() -> None:
    heard = asyncio.get_running_loop().create_future()

    async def slow(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        size = 0
        while data := await reader.read(1 << 15):
            size += len(data)
            await asyncio.sleep(LOOK / 10)
        heard.set_result(size)

    async with destination(slow) as port, home(OPTIONS) as house:
        caller = await house.knock()
        await caller.say(GREETING + socks5(SITE, port))
        await caller.hear(12)
        caller.writer.write(bytes(2_000_000))
        caller.hang_up()
        assert await asyncio.wait_for(heard, SOON) == 2_000_000
        await until(lambda: house.door.clients == 0)


async def test_of_many_requests_at_once_only_one_is_asked_before_the_client_leaves() -> None:
    silent = Silent()
    async with destination(silent) as port, home(OPTIONS) as house:
        caller = await house.knock()
        await caller.say(f"GET http://{SITE}:{port}/ HTTP/1.1\r\n\r\n".encode() * 100)
        await until(lambda: silent.asked == 1)
        caller.hang_up()
        await until(lambda: house.door.clients == 0)
        assert (silent.asked, len(house.dispatcher.asked)) == (1, 1)
        silent.speak.set()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(bytes(1 << 16))
        await writer.drain()


async def test_two_hundred_bad_guests_leave_nothing_behind() -> None:
    silent = Silent()
    async with destination(silent) as quiet, destination(endless) as loud, home(OPTIONS) as house:
        before = house.memory.leased
        head = f"POST http://{SITE}:{quiet}/ HTTP/1.1\r\nContent-Length: 99\r\n"
        words = [
            f"GET http://{SITE}:{quiet}/ HTTP/1.1\r\n\r\n",
            head,
            f"{head}\r\nhalf of it",
            f"GET http://{SITE}:{loud}/ HTTP/1.1\r\n\r\n",
        ]
        callers = [await house.knock() for _ in range(200)]
        for number, caller in enumerate(callers):
            await caller.say(words[number % len(words)].encode())
        await until(lambda: len(house.dispatcher.asked) == 150)
        assert house.door.clients == 200
        for number, caller in enumerate(callers):
            caller.leave_with_a_reset() if number % 3 else caller.hang_up()
        await until(lambda: house.door.clients == 0)
        assert (house.memory.leased, house.memory.charged) == (before, 0)
        silent.speak.set()


async def test_those_who_wait_for_an_answer_hold_nothing_and_starve_nobody() -> None:
    silent = Silent()
    async with destination(silent) as quiet, destination(echo) as port, home(OPTIONS) as house:
        before = house.memory.leased
        callers = [await arrive(house, quiet, PLAIN[number % 4]) for number in range(100)]
        await until(lambda: silent.asked == 100)
        assert (house.memory.leased, house.memory.charged) == (before, 0)
        caller = await house.knock()
        await caller.say(GREETING + socks5(SITE, port) + b"hello")
        assert (await caller.hear(17)).endswith(b"hello")
        for each in (*callers, caller):
            each.hang_up()
        silent.speak.set()
