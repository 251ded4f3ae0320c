"""A path to a server on which single connections can be reset or frozen while they carry."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Thread

HOST = "127.0.0.1"
PIECE = 1 << 18
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds


@dataclass(eq=False)
class PathConnection:
    """One connection, and how many bytes it carried."""

    task: asyncio.Task[None] | None = None
    carried: int = 0
    thawed: asyncio.Event = field(default_factory=asyncio.Event)


class TcpPath:
    """Runs in a thread of its own; ``port`` leads to ``target``; methods are for any thread.

    ``rate`` is what passes on each connection and way, in bytes per second. Connections that begin
    while ``cut_after`` is set end after so many bytes of what the target says, as if it had ended.
    """

    def __init__(self, target: int, rate: float) -> None:
        self.connections: list[PathConnection] = []
        self._target = target
        self._rate = rate
        self.cut_after: int | None = None
        self._loop = asyncio.new_event_loop()
        self._listening = socket.create_server((HOST, 0))
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self._stop = asyncio.Event()

    def run(self) -> None:
        """Until ``stop``; then everything is cut."""
        self._loop.run_until_complete(self._serve())
        self._loop.close()
        self._listening.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    def reset(self, passing: PathConnection) -> None:
        """Both ends see a reset."""
        if passing.task is not None:
            self._loop.call_soon_threadsafe(passing.task.cancel)

    def freeze(self, passing: PathConnection) -> None:
        """Nothing passes any more, and nobody is told."""
        self._loop.call_soon_threadsafe(passing.thawed.clear)

    async def _serve(self) -> None:
        accepting = asyncio.ensure_future(self._accept())
        await self._stop.wait()
        tasks = [accepting, *(each.task for each in self.connections if each.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            near, _ = await self._loop.sock_accept(self._listening)
            passing = PathConnection()
            passing.thawed.set()
            self.connections.append(passing)
            passing.task = asyncio.ensure_future(self._carry(passing, near))
            passing.task.add_done_callback(partial(self._over, passing, near))

    def _over(self, passing: PathConnection, near: socket.socket, _: asyncio.Task[None]) -> None:
        """Also of one that was cancelled before it began."""
        near.close()
        self.connections.remove(passing)

    async def _carry(self, passing: PathConnection, near: socket.socket) -> None:
        with near, socket.socket() as far:
            for sock in (near, far):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            with suppress(OSError, ExceptionGroup):
                await self._loop.sock_connect(far, (HOST, self._target))
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(self._pass(passing, near, far))
                    ways.create_task(self._pass(passing, far, near, self.cut_after))
                for sock in (near, far):  # both have ended: an ordinary close
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))

    async def _pass(
        self,
        passing: PathConnection,
        source: socket.socket,
        sink: socket.socket,
        cut_after: int | None = None,
    ) -> None:
        left = math.inf if cut_after is None else cut_after
        while left and (data := await self._loop.sock_recv(source, int(min(PIECE, left)))):
            left -= len(data)
            await passing.thawed.wait()
            await self._loop.sock_sendall(sink, data)
            passing.carried += len(data)
            await asyncio.sleep(len(data) / self._rate)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def tcp_path(target: int, rate: float = math.inf) -> Iterator[TcpPath]:
    """A running path."""
    way = TcpPath(target, rate)
    thread = Thread(target=way.run)
    thread.start()
    try:
        yield way
    finally:
        way.stop()
        thread.join()
