"""What a TCP stream tells of its connection."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from circumvent.errors import DialError
from circumvent.net import readiness, tcp, udp
from circumvent.net.sockets import delivered
from circumvent.net.tcp import TcpStream
from circumvent.net.tcp_info import tcp_info, unread
from circumvent.testing.far_end import connected
from circumvent.testing.steps import read_exactly, write_all

SMALL = 8 * 1024
LONG = 60.0


@dataclass(frozen=True)
class Ends:
    near: TcpStream
    sock: socket.socket
    far: socket.socket


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    near, far = connected(small=SMALL, receive=SMALL)
    with far:
        stream = TcpStream(near)
        yield Ends(stream, near, far)
        stream.abort()


async def dial_tcp() -> None:
    (await tcp.connect("127.0.0.1", 9)).abort()


async def dial_udp() -> None:
    udp.connect("127.0.0.1", 9).close()


def fill(stream: TcpStream) -> None:
    """Send until the kernel takes no more."""
    block = memoryview(bytes(4096))
    while stream.flush():
        stream.write(block, 0, len(block))


async def test_how_long_the_other_end_was_silent_and_how_far_it_is(ends: Ends) -> None:
    await write_all(ends.near, b"question")
    ends.far.sendall(b"answer")
    await read_exactly(ends.near, 6)
    vitals, info = ends.near.vitals(), tcp_info(ends.sock)
    assert vitals is not None
    assert info is not None
    assert 0.0 <= vitals.silence <= min(info.since_received, info.since_acknowledged) < LONG
    assert 0.0 < vitals.rtt < LONG
    assert vitals.queueing == pytest.approx(max(vitals.rtt - info.least_rtt, 0.0))
    assert vitals.unanswered == 0
    await asyncio.sleep(0.01)
    later = tcp_info(ends.sock)
    assert later is not None
    assert 0.0 < later.since_sent < LONG


async def test_a_closed_connection_has_no_vitals(ends: Ends) -> None:
    ends.near.abort()
    assert ends.near.vitals() is None
    assert (ends.near.unacknowledged(), ends.near.peer, ends.near.place) == (0, "", "")


async def test_what_nobody_has_read_is_counted(ends: Ends) -> None:
    ends.far.sendall(b"words")
    await ends.near.wait_readable()
    assert unread(ends.sock) == 5
    await read_exactly(ends.near, 5)
    assert unread(ends.sock) == 0


async def test_it_knows_the_other_end(ends: Ends) -> None:
    address = ends.far.getsockname()
    assert (ends.near.peer, ends.near.place) == (address[0], str(address))


async def test_what_the_other_end_has_is_delivered(ends: Ends) -> None:
    await write_all(ends.near, b"words")
    await delivered(ends.near, LONG)
    assert ends.near.unacknowledged() == 0
    assert ends.far.recv(9) == b"words"


async def test_an_end_that_takes_nothing_is_waited_for_only_so_long(ends: Ends) -> None:
    fill(ends.near)
    await delivered(ends.near, 0.01)
    assert ends.near.unacknowledged() > 0


async def test_there_is_no_room_for_what_the_kernel_would_not_take(ends: Ends) -> None:
    assert ends.near.room() > 0
    fill(ends.near)
    assert ends.near.room() == 0


async def test_the_other_end_is_asked_for_a_sign_each_second_until_it_need_not(ends: Ends) -> None:
    ends.near.ask_for_sign(wanted=True)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        assert ends.sock.getsockopt(socket.IPPROTO_TCP, option) == 1
    assert ends.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    ends.near.ask_for_sign(wanted=False)
    assert not ends.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize("edges", [True, False])
async def test_nobody_waits_for_what_is_closed_and_the_loop_watches_nothing_in_vain(
    monkeypatch: pytest.MonkeyPatch, *, edges: bool
) -> None:
    if not edges:
        monkeypatch.setattr(readiness, "_EDGES", 0)
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        ready = readiness.watch(near.fileno())
        await ready.wait_writable()
        far.send(b"x")
        await ready.wait_readable()
        loop = asyncio.get_running_loop()
        assert not loop.remove_reader(near)
        assert not loop.remove_writer(near)
        ready.close()
        ready.drained()
        async with asyncio.timeout(LONG):
            await ready.wait_readable()
            await ready.wait_writable()


@pytest.mark.parametrize("dial", [dial_tcp, dial_udp])
async def test_a_machine_without_descriptors_is_told_as_such(
    dial: Callable[[], Awaitable[None]],
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(DialError, match="no socket") as caught:
            await dial()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
