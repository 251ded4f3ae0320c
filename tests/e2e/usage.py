"""Kinds of use that are slow but healthy: what a user and the destination do.

``python -m tests.e2e.usage serve PACE`` serves the destinations of all kinds;
``python -m tests.e2e.usage use PACE TASKS`` holds the conversations of ``TASKS`` (JSON) and prints
one line when each ends. All seconds here are multiplied by ``PACE``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

FIRST_PORT = 8000
PAGES_PORT = 7999
PATIENCE = 40.0  # seconds that a user waits for what will come
LONGEST = 80.0  # seconds of one conversation
ASK_PATIENCE = 5.0
SILENCE = 8.0
SMALL_BUFFERS = 32 << 10  # so that a peer that does not read is soon noticed
UPLOAD_RATE = 10_000  # bytes per second
LONG = 2 << 20  # bytes; more than all buffers on the way hold
OBJECT = 40_000  # bytes of what a page consists of
NO_PASSWORD = b"\x05\x01\x00"
CONNECT = b"\x05\x01\x00\x01\x7f\x00\x00\x01"  # to 127.0.0.1
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Task(msgspec.Struct, frozen=True):
    """``count`` conversations through the proxy on ``port``.

    The first begins ``after`` so many seconds, and then one ``every`` so many.
    """

    port: int
    use: str
    count: int
    after: float = 0.0
    every: float = 0.0


class Outcome(msgspec.Struct, frozen=True):
    """How one conversation ended; times are those of the machine's monotonic clock."""

    port: int
    use: str
    began: float
    ended: float
    failure: str = ""


@dataclass(slots=True)
class Talk:
    """One end of a conversation."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pace: float

    async def receive(self, size: int = 1) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readexactly(size)

    async def send(self, size: int = 1) -> None:
        while size:
            piece = min(size, 1 << 16)
            self.writer.write(bytes(piece))
            await self.writer.drain()
            size -= piece

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.pace)


Part = Callable[[Talk], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Use:
    """The two parts of a conversation."""

    user: Part
    destination: Part


async def upload(talk: Talk) -> None:
    await talk.receive(5)
    for _ in range(60):
        await talk.send(UPLOAD_RATE // 2)
        await talk.pause(0.5)
    await talk.receive()


async def take_upload(talk: Talk) -> None:
    await talk.send(5)
    for _ in range(60):
        await talk.receive(UPLOAD_RATE // 2)
    await talk.send()


async def ask_three_times(talk: Talk) -> None:
    for _ in range(3):
        await talk.send(200)
        await talk.receive(300)


async def answer_late_at_second(talk: Talk) -> None:
    for seconds in (0, 25, 5):
        await talk.receive(200)
        await talk.pause(seconds)
        await talk.send(300)


async def ask_for_events(talk: Talk) -> None:
    await talk.send(200)
    for _ in range(4):
        await talk.receive(50)


async def send_events(talk: Talk) -> None:
    await talk.receive(200)
    await talk.send(50)
    for _ in range(3):
        await talk.pause(12)
        await talk.send(50)


async def type_in_a_shell(talk: Talk) -> None:
    await talk.receive(20)
    for pause in (0.3, 0.3, 25, 0.3, 5):
        await talk.send()
        await talk.receive()
        await talk.pause(pause)


async def serve_a_shell(talk: Talk) -> None:
    await talk.send(20)
    await echo(talk)


async def watch_with_a_pause(talk: Talk) -> None:
    await talk.send(200)
    await talk.receive(LONG // 8)
    await talk.pause(18)
    await talk.receive(LONG - LONG // 8)
    await talk.pause(10)


async def send_film(talk: Talk) -> None:
    await talk.receive(200)
    await talk.send(LONG)
    await talk.reader.read()


async def upload_to_a_stall(talk: Talk) -> None:
    await talk.send(LONG)
    await talk.receive()


async def stall(talk: Talk) -> None:
    await talk.receive(LONG // 16)
    await talk.pause(25)
    await talk.receive(LONG - LONG // 16)
    await talk.pause(3)
    await talk.send()


async def ask_in_vain(talk: Talk) -> None:
    await talk.send(200)
    with suppress(TimeoutError):
        async with asyncio.timeout(28 * talk.pace):
            await talk.receive()


async def never_answer(talk: Talk) -> None:
    await talk.reader.read()


async def read_slowly(talk: Talk) -> None:
    await talk.send(200)
    await talk.receive(30_000)


async def send_slowly(talk: Talk) -> None:
    await talk.receive(200)
    for _ in range(30):
        await talk.send(1000)
        await talk.pause(1)


async def ask_twice(talk: Talk) -> None:
    for _ in range(2):
        await talk.send(200)
        await talk.receive(300)


async def answer_late(talk: Talk) -> None:
    for _ in range(2):
        await talk.receive(200)
        await talk.pause(17)
        await talk.send(300)


async def upload_and_end(talk: Talk) -> None:
    await talk.send(20_000)
    talk.writer.write_eof()
    await talk.receive()
    if await talk.reader.read():
        raise ConnectionError("more came than was sent")


async def answer_at_the_end(talk: Talk) -> None:
    await talk.reader.read()
    await talk.pause(25)
    await talk.send()


async def keep_alive(talk: Talk) -> None:
    for pause in (27, 5):
        await talk.send(200)
        await talk.receive(200)
        await talk.pause(pause)


async def echo(talk: Talk) -> None:
    while data := await talk.reader.read(1 << 16):
        talk.writer.write(data)
        await talk.writer.drain()


async def ping(talk: Talk) -> None:
    """Each side sends four times, every eight seconds, and receives the other's bytes."""

    async def ask() -> None:
        for _ in range(4):
            await talk.send(2)
            await talk.pause(8)

    asking = asyncio.ensure_future(ask())
    try:
        await talk.receive(8)
    finally:
        await asyncio.gather(asking)


async def ask_once(talk: Talk) -> None:
    async with asyncio.timeout(ASK_PATIENCE):
        await talk.send(100)
        await talk.receive(100)


async def fetch(talk: Talk) -> None:
    await talk.send(100)
    await talk.receive(OBJECT)


async def send_object(talk: Talk) -> None:
    await talk.receive(100)
    await talk.send(OBJECT)
    await talk.reader.read()


async def chat(talk: Talk) -> None:
    """Send and receive twice a second, for as long as a fault is watched."""
    until = time.monotonic() + 30 * talk.pace
    while time.monotonic() < until:
        await talk.send(10)
        await talk.receive(10)
        await talk.pause(0.5)


async def upload_all_the_time(talk: Talk) -> None:
    """Send as fast as the connection takes it."""
    until = time.monotonic() + 30 * talk.pace
    while time.monotonic() < until:
        await talk.send(1 << 14)


async def discard(talk: Talk) -> None:
    while await talk.reader.read(1 << 18):
        pass


async def download_all_the_time(talk: Talk) -> None:
    await talk.send()
    until = time.monotonic() + 30 * talk.pace
    while time.monotonic() < until:
        await talk.receive(1 << 14)


async def send_all_the_time(talk: Talk) -> None:
    await talk.receive()
    while True:
        await talk.send(1 << 14)


USES = {
    "steady upload, answered at the end": Use(upload, take_upload),
    "long polls on kept-alive connections": Use(ask_three_times, answer_late_at_second),
    "an event every 12 s": Use(ask_for_events, send_events),
    "an idle shell": Use(type_in_a_shell, serve_a_shell),
    "video that pauses": Use(watch_with_a_pause, send_film),
    "an upload whose destination stalls": Use(upload_to_a_stall, stall),
    "a destination that never answers": Use(ask_in_vain, never_answer),
    "a download at 1 kB/s": Use(read_slowly, send_slowly),
    "a late first answer": Use(ask_twice, answer_late),
    "a half-closed upload": Use(upload_and_end, answer_at_the_end),
    "kept alive and idle": Use(keep_alive, echo),
    "pings both ways": Use(ping, ping),
    "ask once": Use(ask_once, echo),
    "fetch": Use(fetch, send_object),
    "chat": Use(chat, echo),
    "uploads without end": Use(upload_all_the_time, discard),
    "downloads without end": Use(download_all_the_time, send_all_the_time),
}
PORTS = {name: FIRST_PORT + number for number, name in enumerate(USES)}


def serve_command(pace: float) -> list[str]:
    """The command that serves the destinations."""
    return [sys.executable, "-m", __spec__.name, "serve", str(pace)]


def use_command(pace: float, tasks: Sequence[Task]) -> list[str]:
    """The command that holds the conversations."""
    return [
        sys.executable,
        "-m",
        __spec__.name,
        "use",
        str(pace),
        msgspec.json.encode(tasks).decode(),
    ]


# --- the processes -------------------------------------------------------------------------------


class Pages:
    """The pages that probes ask for.

    ``/after/S`` answers after ``S`` seconds. ``/shy`` does not answer for ``SILENCE`` seconds
    after a SIGUSR1.
    """

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def stay_silent(self) -> None:
        """Answer nothing for ``SILENCE`` seconds."""
        self._quiet_until = time.monotonic() + SILENCE

    async def __call__(self, talk: Talk) -> None:
        head = await talk.reader.readuntil(b"\r\n\r\n")
        _, name, *rest = head.split()[1].decode().split("/")
        if name == "after":
            await asyncio.sleep(float(rest[0]))
        elif name == "shy" and time.monotonic() < self._quiet_until:
            await talk.reader.read()
            return
        talk.writer.write(ANSWER)
        await talk.writer.drain()


async def serve(pace: float) -> None:
    """Serve until the process is killed."""
    for name, use in USES.items():
        await _listen(PORTS[name], use.destination, pace)
    pages = Pages()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, pages.stay_silent)
    await _listen(PAGES_PORT, pages, pace)
    await asyncio.Event().wait()


async def _listen(port: int, part: Part, pace: float) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            await part(Talk(reader, writer, pace))
        writer.close()

    listening = socket.create_server(("0.0.0.0", port), backlog=4096)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFERS)
    listening.setblocking(False)
    await asyncio.start_server(talk, sock=listening)


async def use(pace: float, tasks: Sequence[Task]) -> None:
    """Print how each conversation ended, as soon as it has ended."""
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            for number in range(task.count):
                group.create_task(_converse(task, task.after + number * task.every, pace))


async def _converse(task: Task, wait: float, pace: float) -> None:
    await asyncio.sleep(wait)
    began = time.monotonic()
    failure = ""
    try:
        async with asyncio.timeout(LONGEST):
            await _visit(task, pace)
    except (OSError, asyncio.IncompleteReadError) as error:
        failure = f"{type(error).__name__}: {error}"
    outcome = Outcome(task.port, task.use, began, time.monotonic(), failure)
    os.write(1, msgspec.json.encode(outcome) + b"\n")


async def _visit(task: Task, pace: float) -> None:
    sock = socket.socket()
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, SMALL_BUFFERS)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", task.port))
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        writer.write(NO_PASSWORD + CONNECT + PORTS[task.use].to_bytes(2))
        answer = await reader.readexactly(2 + 10)
        if answer[3]:
            raise ConnectionRefusedError(f"SOCKS reply {answer[3]}")
        await USES[task.use].user(Talk(reader, writer, pace))
    finally:
        writer.transport.abort()


def outcomes(log: str) -> list[Outcome]:
    """What ``use`` printed."""
    lines = [line for line in log.splitlines() if line.startswith("{")]
    return [msgspec.json.decode(line, type=Outcome) for line in lines]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(float(sys.argv[2])))
    else:
        tasks = msgspec.json.decode(sys.argv[3], type=list[Task])
        asyncio.run(use(float(sys.argv[2]), tasks))
