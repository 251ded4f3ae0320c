"""WebSockets that a client asks for, held against the contract of layers; early data; ends."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest

from circumvent.api import ProtocolError, StreamLayer, StreamResetError
from circumvent.layers.early_websocket import EarlyWebSocketLayer
from circumvent.layers.websocket import WebSocketLayer
from circumvent.net.tcp import TcpStream
from circumvent.testing.byte_stream import AnnouncedEndContract
from circumvent.testing.far_end import Codec, FarEnd, connected
from circumvent.testing.layer import KERNEL_BUFFER, RECEIVE_BUFFER, LayerContract
from circumvent.testing.steps import Pair, blocked, both, read_all, read_exactly, take, write_all
from circumvent.wire.websocket_handshake import upgrade_answer
from tests.conformance.codecs import WebSocketCodec

PLAIN = WebSocketLayer("site.test", "/p")
EARLY = EarlyWebSocketLayer(PLAIN, 600)
EMPTY_LINE = b"\r\n\r\n"


class Server(WebSocketCodec):
    """A server's side with its handshake; ``early`` is what the request brought."""

    def __init__(self, *, ready: bool) -> None:
        super().__init__(is_client=False)
        self.ready = ready
        self.early = b""
        self.head = b""
        self._answer = b""

    def open(self, wire: bytes) -> bytes:
        if EMPTY_LINE in self.head:
            return super().open(wire)
        self.head += wire
        if EMPTY_LINE not in self.head:
            return b""
        lines = [line.partition(b": ")[::2] for line in self.head.split(b"\r\n")[1:-2]]
        headers = dict(lines)
        early = headers.get(b"Sec-WebSocket-Protocol", b"")
        self.early = base64.urlsafe_b64decode(early + b"=" * (-len(early) % 4))
        self._answer = upgrade_answer(headers[b"Sec-WebSocket-Key"])
        self.ready = True
        return self.early

    def replies(self) -> bytes:
        answer, self._answer = self._answer, b""
        return answer or super().replies()


class TestWebSocketLayer(LayerContract, AnnouncedEndContract):
    @pytest.fixture
    def layer(self) -> StreamLayer:
        return PLAIN

    @pytest.fixture
    def codec(self) -> Codec:
        return Server(ready=False)


class TestEarlyWebSocketLayer(LayerContract, AnnouncedEndContract):
    """Once it is open: an empty first write asks without any data."""

    @pytest.fixture
    def layer(self) -> StreamLayer:
        return EARLY

    @pytest.fixture
    def codec(self) -> Codec:
        return Server(ready=True)

    @pytest.fixture
    async def pair(self, lazy: Pair) -> Pair:
        take(lazy.near, b"")
        await both(lazy.far.step(), answered(lazy))
        return lazy


@pytest.fixture
async def lazy() -> AsyncIterator[Pair]:
    near, far = connected(small=KERNEL_BUFFER, receive=RECEIVE_BUFFER)
    pair = Pair(await EARLY.start(TcpStream(near)), FarEnd(far, Server(ready=True)))
    yield pair
    pair.near.abort()
    pair.far.close()


async def answered(pair: Pair) -> None:
    while not pair.near.room():
        await pair.near.wait_readable()
        assert pair.near.read_into(memoryview(bytearray(pair.near.record))) is None


def server(pair: Pair) -> Server:
    assert isinstance(pair.far.codec, Server)
    return pair.far.codec


async def test_the_first_bytes_go_with_the_request_and_the_rest_after_the_answer(
    lazy: Pair,
) -> None:
    data = bytes(range(256)) * 4
    size = take(lazy.near, data)
    assert size == EARLY.size
    assert take(lazy.near, data[size:]) == 0
    assert await lazy.far.receive(size) == data[:size]
    assert server(lazy).early == data[:size]
    _, received = await both(
        both(answered(lazy), write_all(lazy.near, data[size:])),
        lazy.far.receive(len(data) - size),
    )
    assert received == data[size:]
    await lazy.far.send(b"an answer")
    assert await read_exactly(lazy.near, 9) == b"an answer"


async def test_a_writer_sleeps_until_the_answer_comes(lazy: Pair) -> None:
    take(lazy.near, b"first")
    writer = await blocked(lazy.near.wait_writable())
    await lazy.far.step()
    await answered(lazy)
    await writer


async def test_an_end_before_the_answer_waits_for_it(lazy: Pair) -> None:
    take(lazy.near, b"all there is")
    lazy.near.write_eof()
    assert not lazy.near.flush()
    await lazy.far.step()
    await answered(lazy)
    assert await lazy.far.receive_all() == b"all there is"


async def test_an_abort_before_the_answer_wakes_the_writer(lazy: Pair) -> None:
    take(lazy.near, b"first")
    writer = await blocked(lazy.near.wait_writable())
    lazy.near.abort()
    await writer
    with pytest.raises(StreamResetError):
        take(lazy.near, b"x")


async def test_closing_before_the_answer_sends_what_was_taken(lazy: Pair) -> None:
    take(lazy.near, b"first")
    await lazy.near.aclose()
    assert await lazy.far.receive(5) == b"first"


async def test_a_refusal_is_an_error_of_the_reader(lazy: Pair) -> None:
    take(lazy.near, b"first")
    await asyncio.get_running_loop().sock_sendall(lazy.far.sock, b"HTTP/1.1 404 No\r\n\r\n")
    with pytest.raises(ProtocolError, match="status 404"):
        await read_exactly(lazy.near, 1)
    await lazy.near.wait_writable()
    with pytest.raises(StreamResetError, match="status 404"):
        take(lazy.near, b"x")


async def test_a_writer_without_a_reader_goes_on(lazy: Pair) -> None:
    data = bytes(5000)
    _, received = await both(write_all(lazy.near, data), lazy.far.receive(len(data)))
    assert received == data


async def test_a_reader_and_a_writer_wait_for_the_answer_together(lazy: Pair) -> None:
    data = bytes(5000)
    reader = asyncio.ensure_future(read_exactly(lazy.near, 9))
    await asyncio.sleep(0.004)
    await both(write_all(lazy.near, data), answer_all(lazy.far, len(data)))
    (read,) = await both(reader)
    assert read == b"an answer"


async def answer_all(far: FarEnd, size: int) -> None:
    assert len(await far.receive(size)) == size
    await far.send(b"an answer")


async def test_a_connection_that_ends_before_a_request_is_cut(lazy: Pair) -> None:
    lazy.far.cut()
    with pytest.raises(StreamResetError):
        await read_exactly(lazy.near, 1)


async def test_where_a_close_frame_ends_both_directions_it_comes_last() -> None:
    near, far = connected(small=KERNEL_BUFFER, receive=RECEIVE_BUFFER)
    layer = WebSocketLayer("site.test", half_closes=False)
    peer = FarEnd(far, Server(ready=False))
    async with asyncio.TaskGroup() as group:
        group.create_task(peer.shake_hands())
        started = group.create_task(layer.start(TcpStream(near)))
    stream = started.result()
    await write_all(stream, b"a request")
    stream.write_eof()
    assert await peer.receive(9) == b"a request"
    await peer.send(b"an answer")
    await peer.end()
    assert await read_all(stream) == b"an answer"
    assert not peer.ended
    await stream.aclose()
    assert await peer.receive_all() == b""
    peer.close()
