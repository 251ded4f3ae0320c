"""WebSocket frames and handshakes, beside the ``websockets`` library."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.uri import parse_uri

from circumvent.errors import ProtocolError
from circumvent.wire import websocket as codec
from circumvent.wire import websocket_handshake as handshake
from circumvent.wire.browser import socket_headers

KEYS = st.binary(min_size=4, max_size=4)
# Around every boundary of the length's encoding.
SMALL = st.one_of(st.integers(0, 140), st.sampled_from((125, 126, 700)))
SIZES = st.one_of(SMALL, st.sampled_from((0xFFFF, 0x10000, 0x10001)))
CUTS = st.lists(st.integers(1, 5000), min_size=1, max_size=5)


def payload_of(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def library_frames(messages: Sequence[bytes], pings: Sequence[bytes], *, mask: bool) -> bytes:
    """Each message in two fragments with a control frame in between, as RFC 6455 allows."""
    wire = b""
    for number, message in enumerate(messages):
        half = len(message) // 2
        wire += Frame(Opcode.BINARY, message[:half], fin=False).serialize(mask=mask)
        if number < len(pings):
            wire += Frame(Opcode.PING, pings[number]).serialize(mask=mask)
        wire += Frame(Opcode.CONT, message[half:]).serialize(mask=mask)
    return wire


def unpack(reader: codec.FrameReader, wire: bytes, cuts: Sequence[int]) -> bytes:
    plain = b""
    at = turn = 0
    while at < len(wire):
        piece = bytearray(wire[at : at + cuts[turn % len(cuts)]])
        count = reader.unpack(memoryview(piece))
        plain += piece[:count]
        at += len(piece)
        turn += 1
    return plain


def library_payloads(wire: bytes, *, masked: bool) -> list[Frame]:
    """What the library reads; it checks what RFC 6455 demands."""
    reader = StreamReader()
    reader.feed_data(wire)
    reader.feed_eof()
    found = []
    while not run(reader.at_eof()):
        frame = run(Frame.parse(reader.read_exact, mask=masked))
        frame.check()
        found.append(frame)
    return found


def run(parser: Generator[None, None, Any]) -> Any:  # noqa: ANN401 - as the library has it
    try:
        while True:
            next(parser)
    except StopIteration as done:
        return done.value


class TestFrames:
    @given(sizes=st.lists(SIZES, max_size=4), pings=st.lists(st.binary(max_size=125)))
    @pytest.mark.parametrize("masked", [False, True])
    def test_frames_of_the_library_are_read(
        self, *, masked: bool, sizes: list[int], pings: list[bytes]
    ) -> None:
        messages = [payload_of(size) for size in sizes]
        wire = library_frames(messages, pings, mask=masked)
        reader = codec.FrameReader(masked=masked)
        assert unpack(reader, wire, [4096]) == b"".join(messages)
        echoed = pings[: len(messages)]
        assert reader.ping == (echoed[-1] if echoed else None)

    @given(sizes=st.lists(SMALL, max_size=3), cuts=CUTS)
    def test_the_cuts_of_the_wire_do_not_matter(self, sizes: list[int], cuts: list[int]) -> None:
        messages = [payload_of(size) for size in sizes]
        wire = library_frames(messages, [b"ping"], mask=True)
        reader = codec.FrameReader(masked=True)
        assert unpack(reader, wire, cuts) == b"".join(messages)

    @given(size=SIZES, key=KEYS)
    def test_our_frames_are_read_by_the_library(self, size: int, key: bytes) -> None:
        payload = payload_of(size)
        for used in (key, b""):
            block = bytearray(codec.MAX_HEADER) + payload
            if used:
                codec.mask(memoryview(block)[codec.MAX_HEADER :], used)
            start = codec.put_header(memoryview(block), codec.MAX_HEADER, len(payload), used)
            (frame,) = library_payloads(bytes(block[start:]), masked=bool(used))
            assert len(block) - start == len(frame.serialize(mask=bool(used)))
            assert (frame.opcode, frame.data, frame.fin) == (Opcode.BINARY, payload, True)

    @given(payload=st.binary(max_size=125), key=KEYS)
    def test_control_frames_are_read_by_the_library(self, payload: bytes, key: bytes) -> None:
        wire = codec.make_control(codec.Opcode.PONG, payload, key) + codec.make_close(key)
        pong, close = library_payloads(wire, masked=True)
        assert (pong.opcode, pong.data) == (Opcode.PONG, payload)
        assert (close.opcode, close.data) == (Opcode.CLOSE, (1000).to_bytes(2))

    @given(data=st.binary(max_size=100), key=KEYS, at=st.integers(0, 100))
    def test_a_mask_may_be_applied_in_parts(self, data: bytes, key: bytes, at: int) -> None:
        whole, parts = bytearray(data), bytearray(data)
        codec.mask(memoryview(whole), key)
        codec.mask(memoryview(parts)[:at], key)
        codec.mask(memoryview(parts)[at:], key, min(at, len(data)))
        assert whole == parts

    @given(wire=st.binary(max_size=200), cuts=CUTS)
    def test_any_other_bytes_are_a_protocol_error(self, wire: bytes, cuts: list[int]) -> None:
        with contextlib.suppress(ProtocolError):
            assert len(unpack(codec.FrameReader(masked=True), wire, cuts)) <= len(wire)

    def test_bytes_after_a_close_are_ignored(self) -> None:
        reader = codec.FrameReader(masked=False)
        wire = codec.make_close(b"", 1001) + b"\xff\xff\xff"
        assert unpack(reader, wire, [100]) == b""
        assert reader.closed == 1001
        assert codec.is_orderly(1001)

    @pytest.mark.parametrize(
        ("wire", "what"),
        [
            (b"\x82\x80\0\0\0\0", "server that masks"),
            (b"\xc2\x00", "extension"),
            (b"\x83\x00", "unknown kind"),
            (b"\x81\x00", "text"),
            (b"\x08\x00", "control frame"),
            (b"\x09\x00", "control frame"),
            (b"\x89\x7e\x00\x7e", "control frame"),
            (b"\x82\x7e\x00\x7d", "shortest form"),
            (b"\x82\x7f" + (1 << 63).to_bytes(8), "shortest form"),
            (b"\x80\x00", "wrong order"),
            (b"\x02\x00\x82\x00", "wrong order"),
            (b"\x88\x01x", "half of a closing code"),
        ],
    )
    def test_a_forbidden_frame_is_named(self, wire: bytes, what: str) -> None:
        with pytest.raises(ProtocolError, match=what):
            unpack(codec.FrameReader(masked=False), wire, [100])

    def test_a_client_must_mask(self) -> None:
        with pytest.raises(ProtocolError, match="does not mask"):
            unpack(codec.FrameReader(masked=True), b"\x82\x00", [100])


class TestHandshake:
    HEADERS = (("User-Agent", "a browser"), ("Cookie", "a=b"))

    @given(cuts=CUTS)
    def test_the_library_accepts_our_request_and_we_its_answer(self, cuts: list[int]) -> None:
        upgrade = handshake.ClientUpgrade("site.test", "/a/b?c=d", self.HEADERS)
        server = ServerProtocol()
        server.receive_data(upgrade.request)
        (request,) = server.events_received()
        assert isinstance(request, Request)
        assert (request.path, request.headers["Host"]) == ("/a/b?c=d", "site.test")
        assert request.headers["Cookie"] == "a=b"
        server.send_response(server.accept(request))
        wire = b"".join(server.data_to_send()) + b"early"
        assert feed(upgrade.receive, wire, [len(wire), *cuts]) == b"early"

    def test_an_answer_may_come_byte_by_byte(self) -> None:
        upgrade = handshake.ClientUpgrade("site.test", "/", ())
        key = dict(parse_request(upgrade.request))[b"Sec-WebSocket-Key"]
        assert feed(upgrade.receive, handshake.upgrade_answer(key), [1]) == b""

    def test_we_accept_the_librarys_request_and_it_our_answer(self) -> None:
        client = ClientProtocol(parse_uri("ws://site.test/"))
        client.send_request(client.connect())
        key = handshake.upgrade_key(parse_request(b"".join(client.data_to_send())))
        client.receive_data(handshake.upgrade_answer(key))
        assert client.state is State.OPEN

    def test_the_request_has_the_order_of_a_browser_and_names_nobody(self) -> None:
        upgrade = handshake.ClientUpgrade("site.test", "/", socket_headers("site.test", "a=b"))
        names = [name.decode() for name, _ in parse_request(upgrade.request)]
        assert names == [  # of Chromium 150, but for its extensions
            *("Host", "Connection", "Pragma", "Cache-Control", "User-Agent", "Upgrade", "Origin"),
            *("Sec-WebSocket-Version", "Accept-Encoding", "Accept-Language", "Cookie"),
            "Sec-WebSocket-Key",
        ]

    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", "status 403"),
            (b"HTTP/1.1 200 OK\r\n\r\n", "status 200"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "another request"),
            (b"x" * 20_000, "not HTTP"),
            (b"", "closed the connection"),
        ],
    )
    def test_refusals_are_told_apart(self, answer: bytes, why: str) -> None:
        with pytest.raises(ProtocolError, match=why):
            handshake.ClientUpgrade("site.test", "/").receive(answer)

    def test_an_extension_that_was_not_offered_is_refused(self) -> None:
        upgrade = handshake.ClientUpgrade("site.test", "/")
        key = dict(parse_request(upgrade.request))[b"Sec-WebSocket-Key"]
        more = b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        with pytest.raises(ProtocolError, match="extension"):
            upgrade.receive(handshake.upgrade_answer(key).replace(b"\r\n\r\n", more))

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({b"Upgrade": b"h2c"}, "does not ask"),
            ({b"Connection": b"close"}, "does not ask"),
            ({b"Sec-WebSocket-Version": b"8"}, "another version"),
            ({b"Sec-WebSocket-Key": b"short"}, "no key"),
            ({b"Sec-WebSocket-Key": b"dGhl!IHNhbXBsZSBub25jZQ=="}, "no key"),
        ],
    )
    def test_requests_for_something_else_are_refused(
        self, change: dict[bytes, bytes], why: str
    ) -> None:
        headers = dict(parse_request(handshake.ClientUpgrade("site.test", "/").request)) | change
        with pytest.raises(ProtocolError, match=why):
            handshake.upgrade_key(headers.items())


def feed(
    receive: Callable[[bytes], bytes | None], wire: bytes, cuts: Sequence[int]
) -> bytes | None:
    at = turn = 0
    result = None
    while result is None and at < len(wire):
        piece = wire[at : at + cuts[turn % len(cuts)]]
        result = receive(piece)
        at += len(piece)
        turn += 1
    return result


def parse_request(wire: bytes) -> list[tuple[bytes, bytes]]:
    lines = wire.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
