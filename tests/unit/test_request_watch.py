"""Requests are found in what passes by, however it is cut and whatever stands before them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.wire.request_watch import MAX_HEAD, RequestHead, RequestWatch, last_head

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


def heads_in(pieces: list[bytes]) -> list[tuple[int, RequestHead]]:
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
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 999), max_size=20))
def test_cuts_change_nothing(conversation: list[bytes], places: list[int]) -> None:
    data = b"".join(conversation)
    whole = heads_in([data])
    assert heads_in(cut(data, places)) == whole
    assert len(whole) == len(conversation)


def test_a_head_is_read() -> None:
    head = last_head(b"GET /a?b HTTP/1.1\r\nHost:x \r\nCOOKIE: a=1\r\nCookie: b=2\r\nX: \r\nX: y")
    assert head == RequestHead(
        b"GET", b"/a?b", {b"host": b"x", b"cookie": b"a=1; b=2", b"x": b", y"}
    )


UNCLEAR = (
    b"GET / HTTP/1.0",
    b"GET / HTTP/1.1\r\n folded: x",
    b"GET / HTTP/1.1\r\nno colon",
    b"GET / HTTP/1.1\r\nspace : x",
    b"GET / HTTP/1.1\r\na: b\nc: d",
    b"GET / HTTP/1.1\r\na: \x00",
    b"GET / HTTP/1.1" + b"\r\na: b" * 65,
)


@pytest.mark.parametrize("head", UNCLEAR)
def test_an_ambiguous_head_is_none(head: bytes) -> None:
    assert last_head(head) is None


@pytest.mark.parametrize("more", [b"Content-Length: 1\r\nContent-Length: 1", b"Content-Length: +1"])
def test_without_a_plain_length_there_is_none(more: bytes) -> None:
    head = last_head(b"POST / HTTP/1.1\r\n" + more)
    assert head is not None
    assert head.length == -1


OURS = b"GET /news HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\n\r\n"
FOUND = RequestHead(b"GET", b"/news", {b"host": b"x", b"cookie": b"a=b"})
STRANGERS = {
    "an upgrade": b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n",
    "a tunnel": b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    "chunks": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n",
    "chunks with extensions": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'1;a="\r\n\r\n"\r\nx\r\n0\r\n\r\n',
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: x\r\n\r\nabc",
    "a length too large": b"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "line feeds": b"GET / HTTP/1.1\nHost: x\n\n",
    "a huge head": b"GET / HTTP/1.1\r\nA: " + b"a" * 3 * MAX_HEAD + b"\r\n\r\n",
    "half an end": b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n\r\n\r",
    "half a head": b"POST / HTTP/1.1\r\nContent-Length: 20\r\n\r\nGET / HTTP/1.1\r\nA: b",
    "a method": b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nPOST",
    "half a request line": b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /",
    "a version": b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n HTTP/1.1",
    "frames": b"\x81\x85abcdhello",
    "empty lines": b"\r\n" * 9,
    **{f"unclear {number}": head + b"\r\n\r\n" for number, head in enumerate(UNCLEAR)},
}


def test_nothing_that_a_stranger_sends_hides_the_next_request() -> None:
    for name, before in STRANGERS.items():
        data = before * 3 + OURS
        assert heads_in([data])[-1] == (len(data), FOUND), name
        assert heads_in([before, before, OURS])[-1] == (2 * len(before) + len(OURS), FOUND), name


@given(st.lists(st.binary(max_size=200) | requests(), max_size=6))
def test_no_bytes_hide_the_next_request(pieces: list[bytes]) -> None:
    found = heads_in([*filter(None, pieces), OURS])
    assert found[-1] == (sum(map(len, pieces)) + len(OURS), FOUND)


def test_no_more_is_kept_than_a_head() -> None:
    watch = RequestWatch()
    for _ in range(MAX_HEAD // 1000 + 20):
        watch.take(b"x" * 1000)
    assert len(watch._begun) == MAX_HEAD  # noqa: SLF001 - what it holds is the promise
