"""``python -m tests.bench.layers``: what each layer costs, stacked as they are used.

KiB that our end of a connection keeps once it has moved a MiB and idles, and CPU seconds per GiB
of our end while it receives and while it sends: the two together are what both ends cost. The
other end is our own, in another process.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from circumvent.api import ByteStream, LayerStream, TlsOptions
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.openssl import OpenSslClient, accept_tls
from circumvent.layers.websocket import WebSocketStream
from circumvent.memory import LARGEST, Memory
from circumvent.net.tcp import TcpStream, connect
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.session import Session
from circumvent_plugins.shadowsocks import AeadLayer
from circumvent_plugins.shadowsocks.ciphers import CIPHERS
from tests.bench.proc import dirty_kib
from tests.peers.certificates import SERVER_NAME, Certificate, make_certificate

MIB = 1 << 20
MOVED = 256 * MIB
IDLE = 50  # connections
SETTLED = 0.1  # seconds until the last acknowledgements have come
DOWN, UP = b"d", b"u"
BONDED = "session over three of tls"

ARENA = 64 * MIB  # for all sessions of the measurement
LOOPBACK_RTT = 0.001
AES = CIPHERS["aes-128-gcm"]

Layer = Callable[[ByteStream], Awaitable[ByteStream]]


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers on a connection, at our end and at theirs; a session over ``carriers`` of them."""

    ours: list[Layer]
    theirs: list[Layer]
    carriers: int = 0


async def layered(stream: ByteStream, layers: list[Layer]) -> ByteStream:
    for layer in layers:
        stream = await layer(stream)
    return stream


def attached(session: Session, carriers: list[ByteStream]) -> None:
    for number, carrier in enumerate(carriers, 1):
        session.attach(number, carrier, LOOPBACK_RTT)


def opened(memory: Memory, carriers: list[ByteStream]) -> ByteStream:
    """A stream of a new session."""
    session = Session(memory.account("sessions"), SessionLimits(), is_client=True)
    attached(session, carriers)
    stream = session.open(b"")
    stream.write(memoryview(b""), 0, 0)
    return stream


async def accepted(memory: Memory, carriers: list[ByteStream]) -> ByteStream:
    """The stream that the peer opens in a new session."""
    stream: asyncio.Future[ByteStream] = asyncio.get_running_loop().create_future()
    session = Session(
        memory.account("sessions"),
        SessionLimits(),
        is_client=False,
        opened=lambda accepted, _: stream.set_result(accepted),
    )
    attached(session, carriers)
    return await stream


async def transfer_down(stream: ByteStream, size: int) -> None:
    block = memoryview(bytearray(LARGEST))
    while size > 0:
        await stream.wait_readable()
        size -= stream.read_into(block) or 0


async def transfer_up(stream: ByteStream, size: int) -> None:
    block = memoryview(bytearray(LARGEST))
    start = stream.headroom
    while not stream.flush() or size > 0:
        if stream.room():
            end = min(start + size, start + stream.room(), LARGEST)
            size -= stream.write(block, start, end)
        else:
            await stream.wait_writable()


async def serve(listener: socket.socket, stack: Stack) -> None:
    """Send or receive as the first byte says, as much as the next eight say; again and again."""
    memory, carriers = Memory(ARENA), list[ByteStream]()

    async def visit(sock: socket.socket) -> None:
        stream = await layered(TcpStream(sock), stack.theirs)
        if stack.carriers:
            carriers.append(stream)
            if len(carriers) < stack.carriers:
                return
            bond = carriers.copy()
            carriers.clear()
            stream = await accepted(memory, bond)
        block = memoryview(bytearray(max(stream.record, LARGEST)))
        while True:
            await stream.wait_readable()
            count = stream.read_into(block)
            if count and block[:1] == DOWN:
                await transfer_up(stream, int.from_bytes(block[1:9]))
            elif count:
                await transfer_down(stream, int.from_bytes(block[1:9]) - (count - 9))
                await transfer_up(stream, 1)

    tasks = []
    while True:
        sock, _ = await asyncio.get_running_loop().sock_accept(listener)
        tasks.append(asyncio.ensure_future(visit(sock)))


@contextmanager
def far_end(stack: Stack) -> Iterator[int]:
    """Another process that accepts connections of these layers; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=IDLE) as listener:
        listener.setblocking(False)
        child = os.fork()
        if not child:
            try:
                asyncio.run(serve(listener, stack))
            finally:
                os._exit(1)
        try:
            yield listener.getsockname()[1]
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


async def ask(stream: ByteStream, way: bytes, size: int) -> None:
    """Move ``size`` bytes that way."""
    block = memoryview(bytearray(stream.headroom + 9))
    block[stream.headroom :] = way + size.to_bytes(8)
    stream.write(block, stream.headroom, len(block))
    if way == DOWN:
        await transfer_down(stream, size)
    else:
        await transfer_up(stream, size)
        await transfer_down(stream, 1)


@dataclass(frozen=True, slots=True)
class Figures:
    """KiB of an idle one, and CPU seconds per GiB."""

    idle: float
    down: float
    up: float


async def measure(port: int, stack: Stack) -> Figures:
    """What our end of ``stack`` costs; the other one listens on ``port``."""
    memory = Memory(ARENA)

    async def connected() -> ByteStream:
        return await layered(await connect("127.0.0.1", port), stack.ours)

    async def open_one() -> ByteStream:
        if stack.carriers:
            stream = opened(memory, [await connected() for _ in range(stack.carriers)])
        else:
            stream = await connected()
        for way in (DOWN, UP):
            await ask(stream, way, MIB)
        return stream

    streams = [await open_one()]
    gc.collect()
    before = dirty_kib(os.getpid())
    streams += [await open_one() for _ in range(IDLE)]
    await asyncio.sleep(SETTLED)
    gc.collect()
    idle = (dirty_kib(os.getpid()) - before) / IDLE
    seconds = []
    for way in (DOWN, UP):
        started = time.process_time()
        await ask(streams[0], way, MOVED)
        seconds.append((time.process_time() - started) * 1024 * MIB / MOVED)
    for stream in streams:
        stream.abort()
    return Figures(idle, *seconds)


def stacks(certificate: Certificate) -> dict[str, Stack]:
    """All that are measured, by name."""
    client = TlsClient(str(certificate.authority))
    other = OpenSslClient(str(certificate.authority))
    account = Memory(ARENA).account("partial records")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)

    async def tls(stream: ByteStream) -> ByteStream:
        return await client.start(stream, TlsOptions(SERVER_NAME))

    async def openssl(stream: ByteStream) -> ByteStream:
        return await other.start(stream, TlsOptions(SERVER_NAME))

    async def tls_server(stream: ByteStream) -> ByteStream:
        return await accept_tls(stream, context)

    async def shadowsocks(stream: ByteStream) -> ByteStream:
        return await AeadLayer(AES, bytes(AES.key_size), account).start(stream)

    async def hidden(stream: ByteStream) -> ByteStream:
        return LayerStream(stream)

    async def frames(stream: ByteStream) -> ByteStream:
        return WebSocketStream(stream, is_client=True)

    async def frames_server(stream: ByteStream) -> ByteStream:
        return WebSocketStream(stream, is_client=False)

    return {
        "tcp": Stack([], []),
        "tls on the socket": Stack([tls], [tls_server]),
        "the same by openssl": Stack([openssl], [tls_server]),
        "shadowsocks on the socket": Stack([shadowsocks], [shadowsocks]),
        "shadowsocks over tls": Stack([tls, shadowsocks], [tls_server, shadowsocks]),
        "tls in memory": Stack([hidden, tls], [tls_server]),
        "the same in memory by openssl": Stack([hidden, openssl], [tls_server]),
        "websocket over tls": Stack([tls, frames], [tls_server, frames_server]),
        "tls over websocket over tls": Stack(
            [tls, frames, tls], [tls_server, frames_server, tls_server]
        ),
        "session over tcp": Stack([], [], carriers=1),
        "session over tls": Stack([tls], [tls_server], carriers=1),
        BONDED: Stack([tls], [tls_server], carriers=3),
    }


def main() -> None:
    print(f"{'layers':<34} KiB idle  s/GiB down  s/GiB up")
    chosen = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        made = stacks(make_certificate(Path(folder)))
        for name, stack in made.items():
            if not chosen or name in chosen:
                with far_end(stack) as port:
                    seen = asyncio.run(measure(port, stack))
                print(f"{name:<34} {seen.idle:7.1f} {seen.down:11.2f} {seen.up:9.2f}", flush=True)


if __name__ == "__main__":
    main()
