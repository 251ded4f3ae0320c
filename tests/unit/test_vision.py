"""Vision: padding both ways, and when it ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.errors import ProtocolError
from circumvent.wire.vision import MAX_CONTENT, Phase, Vision
from circumvent.wire.vision_filter import PIECES, TlsFilter, whole_data

USER = bytes(range(16))
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01" + bytes(511)
DATA = b"\x17\x03\x03\x00\x64" + bytes(100)


def server_hello(suite: int = 0x1301, *, is_tls13: bool = True) -> bytes:
    extensions = bytes.fromhex("002b00020304") if is_tls13 else bytes(6)
    body = bytes(38) + b"\x20" + bytes(32) + suite.to_bytes(2) + b"\0\0\x2e" + extensions
    body = b"\x02" + body[1:] + bytes(40)
    return b"\x16\x03\x03" + len(body).to_bytes(2) + body


def view(data: bytes) -> memoryview:
    return memoryview(bytearray(data))


def block(command: int, content: bytes, padding: int = 0) -> bytes:
    head = bytes((command,)) + len(content).to_bytes(2) + padding.to_bytes(2)
    return head + content + bytes(padding)


def blocks(wire: bytes) -> list[tuple[int, bytes, int]]:
    """Command, content and padding of each."""
    found = []
    while wire:
        size, padding = int.from_bytes(wire[1:3]), int.from_bytes(wire[3:5])
        end = 5 + size + padding
        assert not any(wire[5 + size : end])
        assert len(wire) >= end
        found.append((wire[0], wire[5 : 5 + size], padding))
        wire = wire[end:]
    return found


def hands_shaken() -> Vision:
    """A stream inside of which TLS 1.3 has said its hellos."""
    vision = Vision(USER)
    assert vision.pad(view(CLIENT_HELLO)).startswith(USER)
    came = view(USER + block(0, server_hello(), 30))
    vision.unpad(came)
    return vision


def test_the_first_block_has_the_user_and_hides_the_length_of_a_hello() -> None:
    wire = Vision(USER).pad(view(CLIENT_HELLO))
    assert wire[:16] == USER
    [(command, content, padding)] = blocks(wire[16:])
    assert (command, content) == (0, CLIENT_HELLO)
    assert 900 - len(CLIENT_HELLO) <= padding < 1400 - len(CLIENT_HELLO)


def test_a_silent_client_fills_its_request_up() -> None:
    vision = Vision(USER)
    [(command, content, padding)] = blocks(vision.fill()[16:])
    assert (command, content) == (0, b"")
    assert 900 <= padding < 1400
    assert not vision.pad(view(CLIENT_HELLO)).startswith(USER)


def test_records_of_tls13_go_raw() -> None:
    vision = hands_shaken()
    wire = vision.pad(view(DATA * 2))
    assert [(command, content) for command, content, _ in blocks(wire)] == [(2, DATA * 2)]
    assert vision.sending is Phase.RAW


def test_unless_we_may_not() -> None:
    vision = Vision(USER, may_go_raw=False)
    vision.pad(view(CLIENT_HELLO))
    vision.unpad(view(USER + block(0, server_hello())))
    assert [command for command, *_ in blocks(vision.pad(view(DATA)))] == [1]
    assert vision.sending is Phase.PLAIN


@pytest.mark.parametrize(
    "hello", [server_hello(0xC02F, is_tls13=False), server_hello(0x1305), server_hello(0xC02F)]
)
def test_records_of_another_tls_stay_inside(hello: bytes) -> None:
    vision = Vision(USER)
    vision.pad(view(CLIENT_HELLO))
    vision.unpad(view(USER + block(0, hello)))
    assert [command for command, *_ in blocks(vision.pad(view(DATA)))] == [1]


@pytest.mark.parametrize("rest", [DATA[:50], b"\x17\x03", b"\x15\x03\x03\0\x02ab"])
def test_half_a_record_does_not_end_the_padding(rest: bytes) -> None:
    vision = hands_shaken()
    assert [command for command, *_ in blocks(vision.pad(view(DATA + rest)))] == [0]
    assert vision.sending is Phase.PADDED
    assert whole_data(view(DATA + rest)) == len(DATA)


def test_what_is_no_tls_is_padded_for_some_pieces_only() -> None:
    vision = Vision(USER)
    commands = []
    while vision.sending is Phase.PADDED:
        wire = vision.pad(view(b"hello"))
        commands += [command for command, *_ in blocks(wire.removeprefix(USER))]
    assert commands == [0] * (PIECES - 2) + [1]


def test_a_large_write_is_cut_where_a_record_begins() -> None:
    vision = hands_shaken()
    long = b"\x17\x03\x03" + (8000).to_bytes(2) + bytes(8000)
    found = blocks(vision.pad(view(long + long)))
    assert [command for command, *_ in found] == [0] * (len(found) - 1) + [2]
    assert b"".join(content for _, content, _ in found) == long + long
    assert found[0][1] == long
    assert all(len(content) + padding <= MAX_CONTENT for _, content, padding in found)


@given(
    pieces=st.lists(
        st.tuples(st.sampled_from([0, 0, 0, 1, 2]), st.binary(max_size=60), st.integers(0, 60)),
        max_size=6,
    ),
    rest=st.binary(max_size=40),
    cuts=st.lists(st.integers(1, 300), max_size=6),
)
def test_blocks_may_be_cut_anywhere(
    pieces: list[tuple[int, bytes, int]], rest: bytes, cuts: list[int]
) -> None:
    wire, expected, ended = USER, b"", Phase.PADDED
    for command, content, padding in pieces:
        wire += block(command, content, padding)
        expected += content
        if command:
            ended = Phase.PLAIN if command == 1 else Phase.RAW
            wire, expected = wire + rest, expected + rest
            break
    vision, got, last = Vision(USER), b"", 0
    for cut in [*sorted(cuts), len(wire)]:
        came = view(wire[last:cut])
        got += bytes(came[: vision.unpad(came)])
        last = max(last, min(cut, len(wire)))
    assert got == expected
    assert vision.receiving is ended


def test_a_server_that_does_not_pad_is_understood() -> None:
    vision, came = Vision(USER), view(b"HTTP/1.1 200 OK\r\n\r\n")
    assert vision.unpad(came) == len(came)
    assert vision.receiving is Phase.PLAIN


@pytest.mark.parametrize("wire", [USER + block(3, b""), USER[:10], USER[:4] + b"x"])
def test_nonsense(wire: bytes) -> None:
    with pytest.raises(ProtocolError, match="Vision"):
        unpad_in_small_pieces(wire + b"nonsense")


def unpad_in_small_pieces(wire: bytes) -> None:
    vision = Vision(USER)
    for at in range(0, len(wire), 4):
        vision.unpad(view(wire[at : at + 4]))


@given(st.lists(st.binary(max_size=100), max_size=PIECES + 1))
def test_the_filter_takes_anything(pieces: list[bytes]) -> None:
    seen = TlsFilter()
    for piece in pieces:
        seen.look(view(b"\x16\x03\x03" + piece))
    assert seen.pieces_left >= 0
