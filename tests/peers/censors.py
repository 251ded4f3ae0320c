"""What sits between a client and an honest server, for TCP; each gives its address.

``python -m tests.peers.censors ADDRESS PORT TARGET`` passes everything on to another port of its
host; from SIGUSR1 on it freezes each flow that has carried 16 KiB.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from tests.peers.process import free_port

HOST = "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_DROP_ALL = struct.pack("HBBI", 6, 0, 0, 0)  # linux/filter.h: BPF_RET | BPF_K, no byte

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[int]:
    """A port where every connection is treated by ``talk``."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await talk(reader, writer)
        finally:
            await _close(writer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    port = free_port()
    server = await asyncio.start_server(accept, HOST, port)
    yield port
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def reset_after_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As when the name in the first flight is on a list."""
    await reader.read(1)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


async def black_hole(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Takes everything, says nothing."""
    while await reader.read(1 << 16):
        pass


def freeze_flow(sock: socket.socket) -> None:
    """Drop every packet of this connection that comes from now on, as on the path: no answer.

    Not even the kernel acknowledges it any more; say nothing yourself, and it is frozen.
    """
    code = ctypes.create_string_buffer(_DROP_ALL)
    program = struct.pack("HL", 1, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def freezing(port: int, after: int) -> Talk:
    """Passes everything on, but of the answers only so many bytes on each connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, port)
        try:
            await asyncio.gather(
                _copy(reader, far_writer), _copy(far_reader, writer, after), return_exceptions=True
            )
        finally:
            await _close(far_writer)

    return talk


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int = 1 << 40
) -> None:
    while data := await reader.read(min(limit, 4096)):
        writer.write(data)
        limit -= len(data)
        if limit == 0:
            await asyncio.Event().wait()
    writer.close()


_L4_LIMIT = 16 << 10


async def _censor(address: str, port: int, target: int) -> None:
    awake = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, awake.set)

    async def talk(near: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        far, far_writer = await asyncio.open_connection(address, target)
        carried = 0

        async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal carried
            while data := await reader.read(4096):
                carried += len(data)
                if awake.is_set() and carried > _L4_LIMIT:
                    for each in (near_writer, far_writer):
                        freeze_flow(each.get_extra_info("socket"))
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        with suppress(OSError):
            await asyncio.gather(copy(near, far_writer), copy(far, near_writer))
        near_writer.close()
        far_writer.close()

    async with await asyncio.start_server(talk, address, port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_censor(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
