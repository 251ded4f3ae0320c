"""Datagrams: from one address only, in time, and nothing too long."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from circumvent.api import Datagrams, DialError, StreamResetError
from circumvent.layers.tls.client import TlsClient
from circumvent.net import readiness
from circumvent.net.dialer import NetDialer
from circumvent.net.udp import MAX_DATAGRAM, UdpDatagrams

HOST = "127.0.0.1"


@pytest.fixture
def server() -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((HOST, 0))
    return server


@pytest.fixture(params=["edges", "levels"])
async def near(
    request: pytest.FixtureRequest, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Datagrams]:
    if request.param == "levels":
        monkeypatch.setattr(readiness, "_EDGES", 0)
    with server, await NetDialer(TlsClient()).udp(HOST, server.getsockname()[1]) as near:
        yield near


def hear(server: socket.socket) -> tuple[bytes, tuple[str, int]]:
    data, peer = server.recvfrom(MAX_DATAGRAM)
    return data, peer


async def test_a_question_and_two_answers(near: Datagrams, server: socket.socket) -> None:
    near.send(b"question")
    data, peer = hear(server)
    server.sendto(b"forged", peer)
    waiting = asyncio.ensure_future(near.receive(1))
    assert await waiting == b"forged"
    waiting = asyncio.ensure_future(near.receive(1))
    await asyncio.sleep(0.01)
    server.sendto(b"answer", peer)
    assert (data, await waiting) == (b"question", b"answer")


async def test_receiving_has_a_deadline(near: Datagrams) -> None:
    with pytest.raises(TimeoutError):
        await near.receive(0.02)


async def test_datagrams_of_others_are_dropped(near: Datagrams, server: socket.socket) -> None:
    near.send(b"question")
    _, peer = hear(server)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, 0))
        other.sendto(b"from elsewhere", peer)
    server.sendto(b"answer", peer)
    assert await near.receive(1) == b"answer"


async def test_a_datagram_that_is_too_long_is_dropped(
    near: Datagrams, server: socket.socket
) -> None:
    near.send(b"question")
    _, peer = hear(server)
    server.sendto(bytes(MAX_DATAGRAM + 1), peer)
    server.sendto(bytes(MAX_DATAGRAM), peer)
    assert len(await near.receive(1)) == MAX_DATAGRAM


async def test_a_closed_port_is_an_error(near: Datagrams, server: socket.socket) -> None:
    server.close()
    near.send(b"question")
    with pytest.raises(StreamResetError, match="refused"):
        await near.receive(1)


async def test_a_missing_route_is_an_error() -> None:
    with pytest.raises(DialError, match="no route to the server"):
        await NetDialer(TlsClient()).udp("255.255.255.255", 53)


async def test_a_datagram_that_the_kernel_has_no_room_for_is_lost() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    near = UdpDatagrams(ours)
    with theirs:
        for _ in range(1000):  # max_dgram_qlen is 10 or some hundreds
            near.send(b"")
        near.close()
