"""A stream that was cut: the client gets what came before, and then a reset."""

import asyncio
import contextlib
import random
import socket
from pathlib import Path

import pytest

from circumvent.api.layer import LayerStream
from circumvent.api.streams import ByteStream
from circumvent.errors import (
    StreamResetError,
)
from circumvent.net.tcp import TcpStream
from circumvent.tunnels.live import LiveTunnel
from circumvent.tunnels.timings import StreamTimings, Timings
from circumvent.wire.address import Destination
from tests.unit.far_side import (
    FarStream,
    all_of,
    answer,
    nodes,
)
from tests.unit.local_sockets import connected_pair
from tests.unit.running_client import RunningClient, running_client
from tests.unit.test_failover import POST, SITE
from tests.virtual.loop import until

BIG = random.Random(1).randbytes(3 << 20)


class Breaking(LayerStream):
    """Takes ``writes``, then no more; its end is a cut, which ``was_cut`` tells."""

    def __init__(self, base: ByteStream, writes: int) -> None:
        super().__init__(base)
        self.writes = writes
        self.was_cut = asyncio.Event()

    def write(self, block: memoryview, start: int, end: int) -> int:
        self.writes -= 1
        if self.writes < 0:
            raise StreamResetError("connection lost: it takes no more", stage="write")
        return super().write(block, start, end)

    def read_into(self, buffer: memoryview) -> int | None:
        count = super().read_into(buffer)
        if count == 0:
            self.was_cut.set()
            raise StreamResetError("connection lost: it was cut", stage="read")
        return count


def let_streams_break(tunnel: LiveTunnel, *, writes: int = 100) -> list[Breaking]:
    """From now on its streams are; they are listed as they are opened."""
    right, opened = tunnel.tunnel.open, list[Breaking]()

    async def open_breaking(destination: Destination) -> ByteStream:
        opened.append(Breaking(await right(destination), writes))
        return opened[-1]

    tunnel.tunnel.open = open_breaking  # type: ignore[method-assign]
    return opened


async def read_until_reset(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := await asyncio.get_running_loop().sock_recv(sock, 65536):
            data += more
        pytest.fail("the end looked clean")
    return data


async def carry(
    client: RunningClient, tunnel: LiveTunnel
) -> tuple[socket.socket, asyncio.Task[None]]:
    """A client that keeps much unread in our kernel, once its tunnel was cut."""
    opened = let_streams_break(tunnel)
    near, far = await connected_pair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)

    async def accept() -> None:
        pass

    served = client.dispatcher.carry(TcpStream(near), Destination(SITE, 80), accept)
    carrying = asyncio.ensure_future(served)
    await asyncio.get_running_loop().sock_sendall(far, POST)
    await until(lambda: bool(opened))
    await opened[0].was_cut.wait()
    return far, carrying


async def test_a_client_gets_all_that_came_before_the_cut(tmp_path: Path) -> None:
    patient = Timings(stream=StreamTimings(taken=20.0))
    much = BIG[:300_000]
    async with (
        nodes(1, {SITE: answer(much)}) as made,
        running_client(all_of(made), tmp_path, timings=patient) as client,
    ):
        (tunnel,) = await client.up(1)
        local, carrying = await carry(client, tunnel)
        assert await read_until_reset(local) == much
        await carrying
        local.close()


async def test_a_client_that_takes_nothing_is_reset_after_a_while(tmp_path: Path) -> None:
    hasty = Timings(stream=StreamTimings(taken=0.03))
    much = BIG[:300_000]
    async with (
        nodes(1, {SITE: answer(much)}) as made,
        running_client(all_of(made), tmp_path, timings=hasty) as client,
    ):
        (tunnel,) = await client.up(1)
        local, carrying = await carry(client, tunnel)
        await carrying
        assert len(await read_until_reset(local)) < len(much)
        local.close()


async def test_a_far_side_that_takes_no_more_may_still_answer(tmp_path: Path) -> None:
    received_enough = asyncio.Event()

    async def refuse(stream: FarStream) -> None:
        await stream.receive()
        await stream.send(b"413 ")
        await received_enough.wait()
        await stream.send(b"Content Too Large")

    async with nodes(1, {SITE: refuse}) as made, running_client(all_of(made), tmp_path) as client:
        (tunnel,) = await client.up(1)
        opened = let_streams_break(tunnel, writes=1)
        browser = await client.browse(SITE)
        await browser.send(POST)
        assert await browser.receive_exactly(4) == b"413 "
        await browser.send(b"two")
        await until(lambda: opened[0].writes < 0)
        received_enough.set()
        assert await browser.receive_exactly(17) == b"Content Too Large"
        with pytest.raises(ConnectionResetError):
            await browser.receive_all()
