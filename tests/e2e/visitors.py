"""Visitors far away open a page at a crowded port; counts how many of them get it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, cycle

HOST = "127.0.0.1"
ROUND_TRIP = 0.15  # seconds: another continent
PATIENCE = 10.0
GET = b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n"


def addresses(networks: int) -> Iterator[str]:
    """Addresses in so many /24 networks of loopback, in turn; visitors use other networks."""
    return (
        f"127.1.{network}.{1 + number // networks % 250}"
        for number, network in zip(count(), cycle(range(networks)), strict=False)
    )


@dataclass(slots=True)
class Tally:
    """``failed`` of ``came`` did not get their page."""

    came: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return (
            f"{self.failed} of {self.came} failed ({100 * self.failed / max(self.came, 1):.1f} %)"
        )


async def visit(port: int, address: str) -> bool:
    """Whether a browser far away gets the page over TLS; each answer takes a round trip."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="site.test")
    try:
        reader, writer = await asyncio.open_connection(HOST, port, local_addr=(address, 0))
    except OSError:
        return False
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    tls.do_handshake()
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await _read_late(reader))
                else:
                    break
            tls.write(GET)
            writer.write(outgoing.read())
            while True:
                try:
                    return tls.read(4096).startswith(b"HTTP/1.1 200")
                except ssl.SSLWantReadError:
                    incoming.write(await _read_late(reader))
    except (OSError, ssl.SSLError, TimeoutError, EOFError):
        return False
    finally:
        writer.transport.abort()


async def _read_late(reader: asyncio.StreamReader) -> bytes:
    """The next bytes, a round trip after they came; raises EOFError."""
    data = await reader.read(65536)
    if not data:
        raise EOFError
    await asyncio.sleep(ROUND_TRIP)
    return data


async def send_visitors(port: int, each_second: float, seconds: float) -> Tally:
    """Start visitors at a steady rate, from as many networks as there are."""
    tally, visits = Tally(), []
    for number in range(int(each_second * seconds)):
        address = f"127.2.{number % 250}.{1 + number // 250}"
        visits.append(asyncio.ensure_future(visit(port, address)))
        await asyncio.sleep(1 / each_second)
    for visited in await asyncio.gather(*visits):
        tally.came += 1
        tally.failed += not visited
    return tally


@asynccontextmanager
async def silent_connections(
    port: int, number: int, networks: int, again: float
) -> AsyncIterator[None]:
    """Hold connections that send nothing; a closed one is opened again after ``again`` seconds."""
    places = addresses(networks)
    tasks = [asyncio.ensure_future(_stay_silent(port, next(places), again)) for _ in range(number)]
    try:
        await asyncio.sleep(1)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _stay_silent(port: int, address: str, again: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.bind((address, 0))
            await loop.sock_connect(sock, (HOST, port))
            await loop.sock_recv(sock, 1)
        await asyncio.sleep(again)
