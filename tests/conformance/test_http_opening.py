"""Streams that one HTTP request opens, held against the contract of layers and against servers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from circumvent.api import HandshakeError, ProtocolError, StreamLayer, StreamResetError
from circumvent.layers.http_opening import HttpHeaderLayer, HttpUpgradeLayer
from circumvent.net.tcp import TcpStream
from circumvent.testing.far_end import Codec, FarEnd, connected
from circumvent.testing.layer import LayerContract
from circumvent.testing.steps import read_all, read_exactly, read_until_cut, take, write_all

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nDate: today\r\n\r\n"
EMPTY_LINE = b"\r\n\r\n"


class Opened(Codec):
    """Expects the head of a request, and sends ``answer`` before everything else."""

    def __init__(self, answer: bytes, *, at_once: bool) -> None:
        self.head = b""
        self._answer = answer
        self._at_once = at_once
        self.ready = not at_once

    def seal(self, data: bytes) -> bytes:
        answer, self._answer = self._answer, b""
        return answer + data

    def open(self, wire: bytes) -> bytes:
        if EMPTY_LINE in self.head:
            return wire
        head, empty_line, rest = (self.head + wire).partition(EMPTY_LINE)
        self.head = head + empty_line
        self.ready = bool(empty_line)
        return rest

    def replies(self) -> bytes:
        return self.seal(b"") if self._at_once and self.ready else b""


class TestHttpUpgrade(LayerContract):
    @pytest.fixture
    def layer(self) -> StreamLayer:
        return HttpUpgradeLayer("site.test", "/p?a=b")

    @pytest.fixture
    def codec(self) -> Codec:
        return Opened(SWITCHING, at_once=True)


class TestHttpUpgradeThatDoesNotWait(LayerContract):
    @pytest.fixture
    def layer(self) -> StreamLayer:
        return HttpUpgradeLayer("site.test", waits=False)

    @pytest.fixture
    def codec(self) -> Codec:
        return Opened(SWITCHING, at_once=False)


class TestHttpHeader(LayerContract):
    @pytest.fixture
    def layer(self) -> StreamLayer:
        return HttpHeaderLayer("site.test")

    @pytest.fixture
    def codec(self) -> Codec:
        return Opened(PAGE, at_once=False)


LAYERS = {
    "upgrade": HttpUpgradeLayer("site.test", "/p"),
    "early upgrade": HttpUpgradeLayer("site.test", "/p", waits=False),
    "header": HttpHeaderLayer("site.test", "/p"),
}
LAZY = [LAYERS["early upgrade"], LAYERS["header"]]


@pytest.fixture
async def sockets() -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    near, far = connected(small=4096, receive=65536)
    far.setblocking(False)
    yield near, far
    near.close()
    far.close()


Sockets = tuple[socket.socket, socket.socket]


async def test_what_comes_with_the_answer_is_not_lost(sockets: Sockets) -> None:
    near, far = sockets
    opening = asyncio.ensure_future(LAYERS["upgrade"].start(TcpStream(near)))
    far_end = FarEnd(far, Opened(SWITCHING + b"early", at_once=True))
    await far_end.shake_hands()
    stream = await opening
    assert await read_exactly(stream, 5, 2) == b"early"
    stream.abort()


@pytest.mark.parametrize("layer", LAYERS.values(), ids=list(LAYERS))
async def test_it_asks_as_a_browser_does_and_without_a_key(
    sockets: Sockets, layer: StreamLayer
) -> None:
    near, far = sockets
    opening = asyncio.ensure_future(layer.start(TcpStream(near)))
    await asyncio.sleep(0)
    if layer in LAZY:
        assert take(await opening, b"") == 0
    head = await asyncio.get_running_loop().sock_recv(far, 4096)
    lines = head.decode().split("\r\n")
    assert lines[0] == "GET /p HTTP/1.1"
    assert lines[1] == "Host: site.test"
    assert not any(line.startswith("Sec-WebSocket") for line in lines)
    opening.cancel()


@pytest.mark.parametrize("layer", LAZY)
async def test_the_request_goes_with_the_first_bytes(sockets: Sockets, layer: StreamLayer) -> None:
    near, far = sockets
    stream = await layer.start(TcpStream(near))
    await write_all(stream, b"first")
    sent = await asyncio.get_running_loop().sock_recv(far, 4096)
    assert sent.endswith(EMPTY_LINE + b"first")
    stream.abort()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "status 404"),
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", "something else"),
        (b"", "closed the connection"),
    ],
)
async def test_an_upgrade_that_is_refused_says_why(
    sockets: Sockets, answer: bytes, why: str
) -> None:
    near, far = sockets
    far_end = FarEnd(far, Codec())
    await far_end.send(answer)
    far_end.cut()
    with pytest.raises(HandshakeError, match=why):
        await LAYERS["upgrade"].start(TcpStream(near))


@pytest.mark.parametrize("layer", LAZY)
async def test_a_refusal_after_the_first_bytes_is_an_error(
    sockets: Sockets, layer: StreamLayer
) -> None:
    near, far = sockets
    stream = await layer.start(TcpStream(near))
    await FarEnd(far, Codec()).send(b"HTTP/1.1 404 Not Found\r\n\r\n")
    with pytest.raises(ProtocolError, match="status 404"):
        await read_exactly(stream, 1)
    stream.abort()


@pytest.mark.parametrize("layer", LAZY)
async def test_a_server_without_anything_to_say_ends(sockets: Sockets, layer: StreamLayer) -> None:
    near, far = sockets
    stream = await layer.start(TcpStream(near))
    FarEnd(far, Codec()).cut()
    assert await read_all(stream) == b""
    stream.abort()


@pytest.mark.parametrize("layer", LAZY)
async def test_an_end_inside_the_answer_is_a_cut(sockets: Sockets, layer: StreamLayer) -> None:
    near, far = sockets
    stream = await layer.start(TcpStream(near))
    far_end = FarEnd(far, Codec())
    await far_end.send(b"HTTP/1.1 2")
    far_end.cut()
    assert await read_until_cut(stream) == b""
    with pytest.raises(StreamResetError):
        await read_all(stream)
    stream.abort()
