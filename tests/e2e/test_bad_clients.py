"""A thousand clients of the HTTP port that misbehave and leave, through a real server."""

import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from circumvent.net.descriptors import raise_descriptor_limit
from tests.bench.contenders import OURS, Running, fetches, started, started_origin
from tests.e2e.asking import await_tunnels, status
from tests.e2e.nodes import Node
from tests.peers.certificates import make_certificate
from tests.peers.process import free_port
from tests.peers.services import HOST, SHADOWSOCKS, Endpoint

CLIENTS = 1000
SOON = 5.0  # seconds after which nothing of them may be left
RESET = struct.pack("ii", 1, 0)


def words(origin: int) -> Sequence[bytes]:
    """Requests that get no answer, are incomplete, are never read, or are broken off."""
    late = f"http://{HOST}:{origin}/after/300 HTTP/1.1\r\nHost: x\r\n"
    return [
        f"GET {late}\r\n".encode(),
        f"GET {late}X: half a head".encode(),
        f"POST {late}Content-Length: 999999\r\n\r\nhalf a body".encode(),
        f"GET http://{HOST}:{origin}/{64 << 20} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        f"GET {late}\r\n".encode() * 100,
        f"CONNECT {HOST}:{origin} HTTP/1.1\r\n\r\nGET {late}\r\n".encode(),
    ]


def in_use(running: Running) -> tuple[int, int, int]:
    """How many bytes are leased and charged, and how many streams are open."""
    now = status(running)
    return now.memory.leased, now.memory.charged, sum(each.streams for each in now.tunnels)


@pytest.mark.prove
def test_a_thousand_bad_clients_leave_nothing_behind(tmp_path: Path) -> None:
    raise_descriptor_limit()
    endpoint = Endpoint(
        SHADOWSOCKS[0], free_port(), SHADOWSOCKS[0].new_secret(), make_certificate(tmp_path)
    )
    node = Node(endpoint, tmp_path)
    with (
        node.process,
        started_origin(tmp_path) as origin,
        started(OURS, [endpoint], tmp_path, origin) as running,
    ):
        await_tunnels(running, 1)
        running.process.await_that(lambda: in_use(running)[2] == 0, "became quiet")
        before = in_use(running)
        clients = []
        for number in range(CLIENTS):
            sock = socket.create_connection((HOST, running.through.proxy))
            asked = words(origin)
            sock.sendall(asked[number % len(asked)])
            clients.append(sock)
        running.process.await_that(lambda: in_use(running)[2] > CLIENTS // 2, "served them")
        during = in_use(running)
        for number, sock in enumerate(clients):
            if number % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()
        left = time.monotonic()
        running.process.await_that(lambda: in_use(running) == before, "was as before")
        print(f"before {before}, during {during}, as before after {time.monotonic() - left:.1f} s")
        assert time.monotonic() - left < SOON
        assert fetches(running.through)
