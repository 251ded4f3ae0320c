"""WebSockets as streams: how they begin, what is answered, and how they end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from websockets.frames import Close, Frame, Opcode

from circumvent.api import (
    HandshakeError,
    LayerStream,
    ProtocolError,
    SecureStream,
    StreamResetError,
)
from circumvent.layers.exchange import receive_flight
from circumvent.layers.websocket import WebSocketLayer, WebSocketStream, accept_websocket
from circumvent.net.tcp import TcpStream
from circumvent.testing.far_end import Codec, FarEnd, connected
from circumvent.testing.steps import Pair, fill, read_all, read_exactly, write_all
from circumvent.wire.websocket_handshake import upgrade_answer, upgrade_key
from tests.conformance.codecs import WebSocketCodec

LAYER = WebSocketLayer("site.test", "/path", (("User-Agent", "a browser"),))
BUFFER = 64 * 1024
SMALL = 4 * 1024  # the kernel keeps a few times that


@pytest.fixture
async def sockets() -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    near, far = connected(small=SMALL, receive=BUFFER)
    far.setblocking(False)
    yield near, far
    near.close()
    far.close()


@pytest.fixture
async def pair(sockets: tuple[socket.socket, socket.socket]) -> AsyncIterator[Pair]:
    near, far = sockets
    stream = WebSocketStream(TcpStream(near), is_client=True)
    yield Pair(stream, FarEnd(far, WebSocketCodec(is_client=False)))
    stream.abort()


async def test_both_ends_begin_and_what_follows_at_once_is_not_lost(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    near, far = sockets

    async def serve() -> WebSocketStream:
        server = TcpStream(far)
        head = await receive_flight(server)
        headers = [line.partition(b": ")[::2] for line in head.split(b"\r\n")[1:-2]]
        accepted = await accept_websocket(server, upgrade_key(headers))
        await write_all(accepted, b"hello")
        return accepted

    serving = asyncio.ensure_future(serve())
    client = await LAYER.start(TcpStream(near))
    server = await serving
    assert await read_exactly(client, 5) == b"hello"
    await write_all(client, b"question")
    assert await read_exactly(server, 8) == b"question"
    await client.aclose()
    assert await read_all(server) == b""
    await server.aclose()


async def test_an_early_frame_in_the_same_packet_as_the_answer(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    near, far = sockets
    opening = asyncio.ensure_future(LAYER.start(TcpStream(near)))
    loop = asyncio.get_running_loop()
    head = await loop.sock_recv(far, BUFFER)
    headers = [line.partition(b": ")[::2] for line in head.split(b"\r\n")[1:-2]]
    frame = Frame(Opcode.BINARY, b"early").serialize(mask=False)
    await loop.sock_sendall(far, upgrade_answer(upgrade_key(headers)) + frame)
    client = await opening
    assert await read_exactly(client, 5) == b"early"
    client.abort()


async def test_a_refusal_is_a_handshake_error_and_closes(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    near, far = sockets
    peer = FarEnd(far, Codec())
    await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(HandshakeError, match="status 403") as caught:
        await LAYER.start(TcpStream(near))
    assert caught.value.stage == "websocket"
    with pytest.raises(ConnectionResetError):
        await peer.receive_all()


async def test_a_broken_connection_is_a_handshake_error(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    near, far = sockets
    FarEnd(far, Codec()).reset()
    with pytest.raises(HandshakeError, match="connection lost"):
        await LAYER.start(TcpStream(near))


async def test_a_ping_is_answered_while_nothing_is_written(pair: Pair) -> None:
    await pair.far.send_wire(Frame(Opcode.PING, b"there?").serialize(mask=False))
    await pair.far.send(b"x")
    assert await read_exactly(pair.near, 1) == b"x"
    pong = await asyncio.get_running_loop().sock_recv(pair.far.sock, 100)
    assert pong[:2] == bytes((0x80 | Opcode.PONG, 0x80 | 6))


async def test_a_peer_that_pings_without_reading_gets_few_pongs(pair: Pair) -> None:
    codec = pair.far.codec
    assert isinstance(codec, WebSocketCodec)
    written = await fill(pair.near)
    while not pair.near.flush():
        await pair.far.step()
    written += await fill(pair.near)
    reading = asyncio.ensure_future(read_exactly(pair.near, 4, pair.near.record))
    await pair.far.send_wire(Frame(Opcode.PING, bytes(125)).serialize(mask=False) * 5000)
    await pair.far.send(b"last")
    assert await reading == b"last"
    await pair.far.receive(len(written))
    await write_all(pair.near, b"x")
    await pair.far.receive(1)
    assert 0 < codec.pongs < 20


async def test_a_close_frame_with_an_error_code_is_not_an_end(pair: Pair) -> None:
    close = Frame(Opcode.CLOSE, Close(1011, "overloaded").serialize()).serialize(mask=False)
    await pair.far.send_wire(pair.far.codec.seal(b"the last words") + close)
    assert await read_exactly(pair.near, 14) == b"the last words"
    with pytest.raises(StreamResetError, match="code 1011"):
        await read_all(pair.near)


async def test_what_the_protocol_forbids_is_an_error(pair: Pair) -> None:
    await pair.far.send_wire(Frame(Opcode.BINARY, b"masked").serialize(mask=True))
    with pytest.raises(ProtocolError, match="server that masks"):
        await read_all(pair.near)


class NoTls(LayerStream, SecureStream):
    """A stream whose end is proved, as that of TLS is."""

    def channel_binding(self) -> bytes:
        return b"none"


@pytest.mark.parametrize(
    ("in_tls", "half_closes", "last", "is_end"),
    [
        (True, False, b"", True),
        (True, False, b"\x82", False),  # a frame has begun
        (True, True, b"", False),  # our own server always says goodbye
        (False, False, b"", False),  # anybody on the way can end TCP
    ],
)
async def test_an_end_without_a_close_frame_counts_where_tls_proves_it(
    sockets: tuple[socket.socket, socket.socket],
    *,
    in_tls: bool,
    half_closes: bool,
    last: bytes,
    is_end: bool,
) -> None:
    near, far = sockets
    base = NoTls(TcpStream(near)) if in_tls else TcpStream(near)
    stream = WebSocketStream(base, is_client=True, half_closes=half_closes)
    peer = FarEnd(far, Codec())
    await peer.send(Frame(Opcode.BINARY, b"all").serialize(mask=False) + last)
    peer.close()
    assert await read_exactly(stream, 3) == b"all"
    if is_end:
        assert await read_all(stream) == b""
    else:
        with pytest.raises(StreamResetError, match="without a close frame"):
            await read_all(stream)
    stream.abort()
