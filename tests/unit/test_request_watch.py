"""Requests are found in what passes by, however it is cut; what is ambiguous is left alone."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circumvent.wire.request_watch import MAX_HEAD, RequestHead, RequestWatch, parse_head

names = st.sampled_from([b"Host", b"Cookie", b"X-Thing", b"Accept"])
values = st.binary(max_size=12).map(lambda raw: raw.hex().encode())
bodies = st.binary(max_size=40)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    headers = draw(st.lists(st.tuples(names, values), max_size=4))
    body = draw(bodies)
    lines = [b"GET /%b HTTP/1.1" % draw(values), *(b"%b: %b" % pair for pair in headers)]
    if body or draw(st.booleans()):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + body


def heads_in(pieces: list[bytes]) -> tuple[list[tuple[int, RequestHead]], RequestWatch]:
    """The heads, and at which byte of the whole each of them ended."""
    watch, found, before = RequestWatch(), [], 0
    for piece in pieces:
        at = 0
        while at < len(piece):
            end, head = watch.take(piece, at)
            assert at < end <= len(piece)
            at = end
            if head is not None:
                found.append((before + at, head))
        before += len(piece)
    return found, watch


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 999), max_size=20))
def test_cuts_change_nothing(conversation: list[bytes], places: list[int]) -> None:
    data = b"".join(conversation)
    whole, _ = heads_in([data])
    in_pieces, watch = heads_in(cut(data, places))
    assert in_pieces == whole
    assert len(whole) == len(conversation)
    assert not watch.blind


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=200) | requests(), max_size=6))
def test_any_bytes_are_taken(pieces: list[bytes]) -> None:
    heads_in([piece for piece in pieces if piece])


def test_a_head_is_read() -> None:
    head = parse_head(b"GET /a?b HTTP/1.1\r\nHost:x \r\nCOOKIE: a=1\r\nCookie: b=2\r\nX: \r\nX: y")
    assert head == RequestHead(
        b"GET", b"/a?b", {b"host": b"x", b"cookie": b"a=1; b=2", b"x": b", y"}
    )


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0",
        b"GET  / HTTP/1.1",
        b"get / HTTP/1.1",
        b"GET / HTTP/1.1\r\n folded: x",
        b"GET / HTTP/1.1\r\nno colon",
        b"GET / HTTP/1.1\r\nspace : x",
        b"GET / HTTP/1.1\r\na: b\nc: d",
        b"GET / HTTP/1.1\r\na: \x00",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1",
        b"GET / HTTP/1.1\r\nContent-Length: +1",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked",
        b"GET / HTTP/1.1\r\nUpgrade: websocket",
        b"GET / HTTP/1.1" + b"\r\na: b" * 65,
    ],
)
def test_what_servers_may_read_differently_ends_the_watch(head: bytes) -> None:
    good = b"GET / HTTP/1.1\r\n\r\n"
    found, watch = heads_in([good + head + b"\r\n\r\n" + good])
    assert watch.blind
    assert len(found) <= 2  # the good one, and the one behind which nothing is certain


def test_a_head_without_end_is_not_kept() -> None:
    watch = RequestWatch()
    for _ in range(MAX_HEAD // 1000 + 2):
        watch.take(b"x" * 1000)
    assert watch.blind
