"""The other end of a stream under test: a socket and an independent codec, step by step."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

CHUNK = 64 * 1024
_RESET = struct.pack("ii", 1, 0)


class Codec:
    """What the stream under test speaks, seen from the other end; this one is plain bytes."""

    ended = False  # whether the codec read that the other side's stream is over
    ends_the_wire = True  # whether the end of the stream is the end of the connection's half
    ready = True  # whether a handshake, if any, is done

    def begin(self) -> bytes:
        """What the codec says first, such as its part of a handshake."""
        return b""

    def seal(self, data: bytes) -> bytes:
        return data

    def open(self, wire: bytes) -> bytes:
        return wire

    def replies(self) -> bytes:
        """What the codec itself has to say to what it opened last."""
        return b""

    def announce_end(self) -> bytes:
        return b""


class FarEnd:
    """Sends and receives plaintext over ``sock`` through ``codec``."""

    def __init__(self, sock: socket.socket, codec: Codec) -> None:
        self.sock = sock
        self.codec = codec
        self._plain = b""
        self._wire_ended = False
        sock.setblocking(False)

    async def send(self, data: bytes, *, piece: int = CHUNK) -> None:
        """Send ``data``, ``piece`` bytes of the wire at a time."""
        await self.send_wire(self.codec.seal(data), piece=piece)

    async def send_wire(self, wire: bytes, *, piece: int = CHUNK) -> None:
        for at in range(0, len(wire), piece):
            await asyncio.get_running_loop().sock_sendall(self.sock, wire[at : at + piece])
            await asyncio.sleep(0)

    async def receive(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or less at the end."""
        while len(self._plain) < size and not self.ended:
            await self.step()
        data, self._plain = self._plain[:size], self._plain[size:]
        return data

    async def receive_all(self) -> bytes:
        while not self.ended:
            await self.step()
        data, self._plain = self._plain, b""
        return data

    async def step(self) -> None:
        """Read once from the socket."""
        wire = await asyncio.get_running_loop().sock_recv(self.sock, CHUNK)
        self._wire_ended = not wire
        self._plain += self.codec.open(wire)
        await self.send_wire(self.codec.replies())

    async def shake_hands(self) -> None:
        await self.send_wire(self.codec.begin())
        while not self.codec.ready:
            await self.step()

    @property
    def ended(self) -> bool:
        return self.codec.ended or self._wire_ended

    async def end(self) -> None:
        """Say that no more follows; go on reading."""
        await self.send_wire(self.codec.announce_end())
        if self.codec.ends_the_wire:
            self.cut()

    def cut(self) -> None:
        """End this half of the connection; the codec announces nothing."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.sock.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()


def connected(*, small: int, receive: int) -> tuple[socket.socket, socket.socket]:
    """Both ends of a loopback connection; towards the far end the kernel keeps little."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, small)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        near = socket.socket()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, small)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far
