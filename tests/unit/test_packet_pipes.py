"""The contract of packet pipes, held by the simplest one: a UDP socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable

import pytest

from circumvent.api import ByteStream, PacketPipe, Tunnel, UnsupportedError
from circumvent.errors import StreamResetError
from circumvent.net.readiness import watch
from circumvent.testing.packet_pipe import PacketPipeContract, Packets
from circumvent.wire.address import Destination

HOST = "127.0.0.1"
LARGEST = 60_000


class SocketPipe(PacketPipe):
    """Packets as the kernel carries them."""

    overhead = 1  # shows that a packet was longer than its buffer

    def __init__(self) -> None:
        self._sock = udp_socket()
        self._watch = watch(self._sock.fileno())

    @property
    def address(self) -> Destination:
        return Destination(*self._sock.getsockname())

    def wait_readable(self) -> Awaitable[None]:
        return self._watch.wait_readable()

    def receive_into(self, buffer: memoryview) -> tuple[int, Destination] | None:
        try:
            size, source = self._sock.recvfrom_into(buffer)
        except BlockingIOError:
            self._watch.drained()
            return None
        except OSError as error:
            raise StreamResetError("closed", stage="read") from error
        return None if size == len(buffer) else (size, Destination(*source))

    def send(self, block: memoryview, start: int, end: int, destination: Destination) -> bool:
        try:
            self._sock.sendto(block[start:end], (destination.host, destination.port))
        except BlockingIOError:
            return False
        except OSError as error:
            raise StreamResetError("closed", stage="write") from error
        return True

    async def aclose(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._watch.close()
        self._sock.close()


class Peer:
    """A socket of its own."""

    def __init__(self, pipe: SocketPipe) -> None:
        self.sock = udp_socket()
        self.address = Destination(*self.sock.getsockname())
        self._pipe = pipe.address

    async def send(self, data: bytes) -> None:
        self.sock.sendto(data, (self._pipe.host, self._pipe.port))

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)


def udp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    sock.setblocking(False)
    return sock


class TestSocketPipe(PacketPipeContract):
    @pytest.fixture
    async def packets(self) -> AsyncIterator[Packets]:
        pipe = SocketPipe()
        peers = Peer(pipe), Peer(pipe)
        yield Packets(pipe, *peers, LARGEST)
        pipe.abort()
        for peer in peers:
            peer.sock.close()


class StreamsOnly(Tunnel):
    async def open(self, destination: Destination) -> ByteStream:
        raise NotImplementedError(str(destination))


async def test_a_tunnel_that_says_nothing_of_packets_carries_none() -> None:
    with pytest.raises(UnsupportedError, match="no packets"):
        await StreamsOnly().open_packets()
