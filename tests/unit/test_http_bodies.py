"""Where bodies of HTTP messages end, however they are cut into pieces."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.errors import ProtocolError
from circumvent.wire.http_bodies import (
    ANSWER,
    MAX_LINE,
    MAX_TRAILERS,
    REQUEST,
    Body,
    Chunked,
    Sized,
    UntilClose,
)

CHUNKS = b"5\r\nhello\r\n006 \t\r\n world\r\n3;a=b;c\r\n!!!\r\n0\r\n"
NEXT = b"GET / HTTP/1.1\r\n"  # what must not be taken for a part of the body


def passed(body: Body, data: bytes, pieces: int = 1 << 20) -> bytes:
    """What of ``data`` goes on, given so many bytes at a time."""
    gone = b""
    for at in range(0, len(data), pieces):
        view = memoryview(bytearray(data[at : at + pieces]))
        if not body.is_over:
            gone += view[: body.take(view)]
    return gone


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("trailers", [b"", b"A: b\r\nC: d\r\n"])
def test_chunks_pass_unchanged_up_to_their_end(pieces: int, trailers: bytes) -> None:
    message = CHUNKS + trailers + b"\r\n"
    body = Chunked(REQUEST)
    assert passed(body, message + NEXT, pieces) == message
    assert body.is_over
    body.end()


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 1000])
def test_chunks_can_be_unwrapped_in_place(pieces: int) -> None:
    body = Chunked(ANSWER)
    body.unwraps = True
    assert passed(body, CHUNKS + b"A: b\r\n\r\n" + NEXT, pieces) == b"hello world!!!"
    assert body.is_over


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=6), pieces=st.integers(1, 50))
def test_any_chunks_in_any_pieces(chunks: list[bytes], pieces: int) -> None:
    message = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"
    assert passed(Chunked(REQUEST), message + NEXT, pieces) == message
    body = Chunked(ANSWER)
    body.unwraps = True
    assert passed(body, message, pieces) == b"".join(chunks)


def test_lone_line_feeds_pass_in_answers_where_they_are_unambiguous() -> None:
    message = b"5\nhello\n0\nA: b\n\n"
    assert passed(Chunked(ANSWER), message + NEXT) == message
    for start in (b"5\n", b"5\r\nhello\n", b"0\r\n\n", b"0\r\nA: b\n"):
        with pytest.raises(ProtocolError):
            passed(Chunked(REQUEST), start)
    with pytest.raises(ProtocolError):
        passed(Chunked(ANSWER), b"5;a\n")


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"\r\n", b"x\r\n", b"-5\r\n", b"+5\r\n", b"0x5\r\n", b" 5\r\n", b"5 5\r\n", b"5\r\r\n"),
        *(b"1" + b"0" * 15 + b"\r\n", b"5;a\rb\r\n", b"5;a\x00\r\n", b"5\r\nhelloX\r\n"),
        *(b"5\r\nhello\r\n\r\n", b"5\r\nhello5\r\n", b"0" * MAX_LINE, b"5;" + b"a" * MAX_LINE),
        *(b"0\r\nA: b\x00\r\n", b"0\r\nA: " + b"b" * MAX_LINE),
        b"0\r\n" + b"A: b\r\n" * (MAX_TRAILERS // 6 + 1),
    ],
)
def test_wrong_chunks_are_refused(wrong: bytes) -> None:
    for stage, pieces in product((REQUEST, ANSWER), (1, 1000, 1 << 20)):
        with pytest.raises(ProtocolError) as caught:
            passed(Chunked(stage), wrong, pieces)
        assert caught.value.stage == stage


@pytest.mark.parametrize("name", [b"Content-Length", b"transfer-encoding", b"Host", b"A b", b""])
def test_trailers_of_a_request_cannot_frame_another(name: bytes) -> None:
    with pytest.raises(ProtocolError, match="trailers"):
        passed(Chunked(REQUEST), b"0\r\n" + name + b": 5\r\n\r\n")


def test_a_sized_body_takes_its_length_and_no_more() -> None:
    body = Sized(ANSWER, 5)
    assert passed(body, b"hel") == b"hel"
    with pytest.raises(ProtocolError, match="the answer ended before its body did"):
        body.end()
    assert passed(body, b"lo" + NEXT) == b"lo"
    assert body.is_over
    body.end()
    assert Sized(REQUEST, 0).is_over


def test_chunks_without_their_end_were_cut() -> None:
    for so_far in (b"", b"5", b"5\r\nhel", b"5\r\nhello\r\n", b"0\r\n", b"0\r\nA: b\r\n"):
        body = Chunked(ANSWER)
        passed(body, so_far)
        with pytest.raises(ProtocolError):
            body.end()


def test_a_body_until_the_close_ends_with_it() -> None:
    body = UntilClose(ANSWER)
    assert passed(body, NEXT) == NEXT
    assert not body.is_over
    body.end()
    assert body.is_over
