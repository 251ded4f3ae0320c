"""Shaped paths on loopback: a token bucket and a delay line each, in a process of their own.

``python -m tests.bonding.shaper TARGET_PORT RATE:DELAY ...`` prints one port for each path, then
obeys lines on its standard input: ``rst N``, ``freeze N``, ``down``, ``up``. ``N`` is a path; all
connections that it has then are meant, later ones are not.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections import deque
from dataclasses import dataclass, field

PIECE = 4096  # bytes that travel together
BUFFER = 64 * 1024  # bytes that wait for the bottleneck, as in a small router
KERNEL = 32 * 1024
_RESET = struct.pack("ii", 1, 0)


def address(number: int) -> str:
    """Where a path begins: each in a network of its own."""
    return f"127.0.{number + 1}.1"


class Lane:
    """One direction of a path, shared by its connections."""

    def __init__(self, rate: float, delay: float) -> None:
        self.rate, self.delay = rate, delay
        self.free_at = 0.0

    async def admit(self, size: int) -> float:
        """When a piece arrives; waits while the buffer before the bottleneck is full."""
        loop = asyncio.get_running_loop()
        while (ahead := (self.free_at - loop.time()) * self.rate) > BUFFER:  # noqa: ASYNC110
            await asyncio.sleep((ahead - BUFFER) / self.rate)
        self.free_at = max(self.free_at, loop.time()) + size / self.rate
        return self.free_at + self.delay


@dataclass(eq=False)
class Connection:
    sockets: tuple[socket.socket, socket.socket]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def cut(self) -> None:
        for sock in self.sockets:
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        for sock in self.sockets:
            sock.close()

    def freeze(self) -> None:
        """Nothing moves any more, and nobody is told."""
        for task in self.tasks:
            task.cancel()


class Path:
    """Listens, and carries what comes to the target."""

    def __init__(self, number: int, target: int, rate: float, delay: float) -> None:
        self.up, self.down = Lane(rate, delay), Lane(rate, delay)
        self.target = target
        self.listener = socket.create_server((address(number), 0))
        self.listener.setblocking(False)
        self.connections: set[Connection] = set()
        self.is_down = False

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(self.listener)
            if self.is_down:
                near.close()
                continue
            far = socket.socket()
            for sock in (near, far):
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(far, ("127.0.0.1", self.target))
            connection = Connection((near, far))
            self.connections.add(connection)
            for lane, source, sink in ((self.up, near, far), (self.down, far, near)):
                queue: deque[tuple[float, bytes]] = deque()
                ready = asyncio.Event()
                connection.tasks += [
                    loop.create_task(self._take(lane, source, queue, ready, connection)),
                    loop.create_task(self._give(sink, queue, ready, connection)),
                ]

    async def _take(
        self,
        lane: Lane,
        source: socket.socket,
        queue: deque[tuple[float, bytes]],
        ready: asyncio.Event,
        connection: Connection,
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                data = await loop.sock_recv(source, PIECE)
                queue.append((await lane.admit(len(data)), data))
                ready.set()
                if not data:
                    return
        except OSError:
            self.drop(connection)

    async def _give(
        self,
        sink: socket.socket,
        queue: deque[tuple[float, bytes]],
        ready: asyncio.Event,
        connection: Connection,
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                while not queue:
                    ready.clear()
                    await ready.wait()
                due, data = queue.popleft()
                await asyncio.sleep(due - loop.time())
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                await loop.sock_sendall(sink, data)
        except OSError:
            self.drop(connection)

    def drop(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.discard(connection)
            connection.cut()


def obey(line: str, paths: list[Path]) -> None:
    what, *which = line.split()
    chosen = [paths[int(which[0])]] if which else paths
    for path in chosen:
        if what in ("down", "up"):
            path.is_down = what == "down"
        for connection in tuple(path.connections):
            path.connections.discard(connection)
            if what in ("rst", "down"):
                connection.cut()
            elif what == "freeze":
                connection.freeze()
            else:
                path.connections.add(connection)


async def main(target: int, shapes: list[str]) -> None:
    paths = [
        Path(number, target, *map(float, shape.split(":"))) for number, shape in enumerate(shapes)
    ]
    print(*(path.port for path in paths), flush=True)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running = [loop.create_task(path.run()) for path in paths]
    while line := await reader.readline():
        obey(line.decode(), paths)
    for task in running:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
