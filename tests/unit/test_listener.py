"""Listening sockets, and how many a process may have."""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from contextlib import ExitStack

from circumvent.net.descriptors import raise_descriptor_limit
from circumvent.net.listener import Listener
from tests.unit.local_sockets import until


async def test_without_room_nobody_is_asked_again_and_again() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    accepted: list[socket.socket] = []
    asked = 0

    def has_room() -> bool:
        nonlocal asked
        asked += 1
        return not accepted

    listener = Listener([listening], accepted.append, has_room)
    listener.resume()
    with ExitStack() as clients:
        for _ in range(2):
            clients.enter_context(socket.create_connection(listening.getsockname()))
        await until(lambda: bool(accepted))
        await asyncio.sleep(0.02)
        assert (len(accepted), asked) == (1, 3)
        accepted.pop().close()
        listener.resume()
        await until(lambda: bool(accepted))
        accepted.pop().close()
        listener.close()


def test_as_many_sockets_may_be_open_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 256), hard))
    try:
        assert raise_descriptor_limit() in {hard, sys.maxsize}
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
