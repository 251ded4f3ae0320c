"""For tests over sockets on loopback: connections, an abrupt end, and waiting for what follows."""

import asyncio
import socket
import struct
from collections.abc import Callable

RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds


async def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection on loopback, not blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def break_off(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, as a killed process with unread data does."""
    sock: socket.socket = writer.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def until(condition: Callable[[], bool], seconds: float = 50.0) -> None:
    """Wait for ``condition``; ``seconds`` is far more than it takes on a busy machine."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - most conditions have no event
            await asyncio.sleep(0.005)
