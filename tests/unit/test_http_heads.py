"""Heads of HTTP messages: what passes is written so that nobody can misread it."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.errors import ProtocolError, UnsupportedError
from circumvent.wire.http_bodies import ANSWER, REQUEST, Chunked, Sized, UntilClose
from circumvent.wire.http_heads import (
    MAX_FIELDS,
    HttpRequest,
    HttpResponse,
    format_head,
    may_be_over,
    parse_answer,
    parse_request,
)

GET = b"GET http://a/ HTTP/1.1\r\n"
POST = b"POST http://a/ HTTP/1.1\r\nHost: a\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


def request(head: bytes) -> HttpRequest:
    found = parse_request(head)
    assert found is not None
    assert found[1] == len(head)
    return found[0]


def answer(head: bytes, *, to_head: bool = False) -> HttpResponse:
    found = parse_answer(head, to_head=to_head)
    assert found is not None
    assert found[1] == len(head)
    return found[0]


def rewritten(head: bytes) -> bytes:
    """A request as it goes on, by a second opinion on HTTP as well."""
    said = request(head)
    again = format_head(b"%b %b HTTP/1.1" % (said.method, said.target), said.headers)
    assert request(again).headers == said.headers
    server = h11.Connection(h11.SERVER)
    # It lets no byte above 0x7F into a target, and wants a Host.
    named = again if b"host:" in again.lower() else again.replace(b"\r\n", b"\r\nHost: a\r\n", 1)
    server.receive_data(bytes(byte if byte < 0x80 else 0x41 for byte in named))
    assert isinstance(server.next_event(), h11.Request)
    server.receive_data(b"x" * 9)
    event = server.next_event()
    if isinstance(said.body, Sized):
        view = memoryview(b"x" * 9)
        length = 0 if said.body.is_over else said.body.take(view)
        assert (len(event.data) if isinstance(event, h11.Data) else 0) == length
    return again


class TestRequestsThatPass:
    @pytest.mark.parametrize("before", [b"", b"\r\n", b"\n\r\n\r\n"])
    def test_empty_lines_before_it_are_skipped(self, before: bytes) -> None:
        assert rewritten(before + GET + b"Host: a\r\n\r\n") == GET + b"Host: a\r\n\r\n"

    def test_lines_may_end_in_lf_alone(self) -> None:
        assert rewritten(b"GET / HTTP/1.1\nHost: a\nX: b\r\n\n").count(b"\r\n") == 4

    def test_bytes_above_ascii_stay_in_target_and_values(self) -> None:
        head = "GET http://a/ü/文件 HTTP/1.1\r\nHost: a\r\nX: ü\r\n\r\n".encode()
        assert rewritten(head) == head

    @pytest.mark.parametrize("first", [b"CONNECT a:1 HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n", GET])
    def test_a_host_may_be_missing(self, first: bytes) -> None:
        assert request(first + b"\r\n").headers == []

    @pytest.mark.parametrize(
        "lengths",
        [b"Content-Length: 5, 5\r\n", b"content-length: 5\r\nX: y\r\nContent-Length: 05\r\n"],
    )
    def test_a_repeated_length_is_written_once(self, lengths: bytes) -> None:
        again = rewritten(POST + lengths + b"\r\n")
        assert again.lower().count(b"length") == 1
        assert b"\r\nContent-Length: 5\r\n" in again

    def test_chunked_in_any_case_is_written_in_lower_case(self) -> None:
        said = request(POST + b"Transfer-Encoding:\tChunked \r\n\r\n")
        assert said.headers[1:] == [(b"Transfer-Encoding", b"chunked")]
        assert isinstance(said.body, Chunked)

    def test_later_minor_versions_are_as_the_first(self) -> None:
        assert not request(b"GET / HTTP/1.2\r\n\r\n").is_old
        assert request(b"GET / HTTP/1.0\r\n\r\n").is_old


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"GET /\r\n", "METHOD TARGET"),  # HTTP/0.9
        (b"GET / HTTP/0.9\r\n", "METHOD TARGET"),
        (b"GET / HTTP/2.0\r\n", "METHOD TARGET"),
        (b"GET / http/1.1\r\n", "METHOD TARGET"),
        (b"GET  / HTTP/1.1\r\n", "METHOD TARGET"),
        (b"GET /a b HTTP/1.1\r\n", "METHOD TARGET"),
        (b" GET / HTTP/1.1\r\n", "METHOD TARGET"),
        (b"GET /\x00 HTTP/1.1\r\n", "METHOD TARGET"),
        (b"GET / HTTP/1.1\rX: y\r\n", "METHOD TARGET"),
        (GET + b"X : y\r\n", "line 2"),
        (GET + b"A: b\r\n X: y\r\n", "line 3"),
        (GET + b"X: a\rb\r\n", "line 2"),
        (GET + b"X: a\r\r\n", "line 2"),
        (GET + b"X: a\x00b\r\n", "line 2"),
        (GET + b"X: a\x0bb\r\n", "line 2"),
        (GET + b"stray\r\n", "line 2"),
        (GET + b": y\r\n", "line 2"),
        (GET + b"Host: a\r\nhost: b\r\n", "two Host"),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n", "different lengths"),
        (POST + b"Content-Length: 5, 6\r\n", "different lengths"),
        (POST + b"Content-Length: +5\r\n", "no number"),
        (POST + b"Content-Length: 0x5\r\n", "no number"),
        (POST + b"Content-Length: 5 5\r\n", "no number"),
        (POST + b"Content-Length:\r\n", "no number"),
        (POST + b"Content-Length: 5,\r\n", "no number"),
        (POST + b"Content-Length: " + b"9" * 19 + b"\r\n", "no number"),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "and a Transfer"),
        (POST + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "and a Transfer"),
        (POST + b"Transfer-Encoding: chunked, gzip\r\n", "does not end"),
        (POST + b"Transfer-Encoding: chunked, chunked\r\n", "does not end"),
        (POST + b"Transfer-Encoding: chunked\r\n" * 2, "does not end"),
        (POST + b"Transfer-Encoding: chunked;q=1\r\n", "does not end"),
        (POST + b"Transfer-Encoding: xchunked\r\n", "does not end"),
        (POST + b'Transfer-Encoding: "chunked"\r\n', "does not end"),
        (POST + b"Transfer-Encoding:\r\n", "does not end"),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", "HTTP/1.0 has no"),
    ],
)
def test_an_ambiguous_request_is_refused(head: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason) as caught:
        parse_request(head + b"\r\n")
    assert caught.value.stage == REQUEST


def test_an_unsupported_transfer_coding_is_named() -> None:
    with pytest.raises(UnsupportedError, match="coded"):
        parse_request(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n")


@pytest.mark.parametrize(
    ("sent", "headers"),
    [
        (b"X-XSS-Protection : 1\r\n", [(b"X-XSS-Protection", b"1")]),
        (b"Content-Length \t: 5\r\n", [(b"Content-Length", b"5")]),
        (b"PHP Warning: Unable to load x in Unknown on line 0\r\nA: b\r\n", [(b"A", b"b")]),
        (b"no colon\r\n: no name\r\n(a): b\r\nA: b\r\n", [(b"A", b"b")]),
        (b"A: b\r\n  c\r\n\td\r\n \r\nE: f\r\n", [(b"A", b"b c d"), (b"E", b"f")]),
        (b" folded, under nothing\r\nA: b\r\n", [(b"A", b"b")]),
        (b"A: b\r\nstray\r\n Content-Length: 5\r\n", [(b"A", b"b")]),
        (b"A: b\rContent-Length: 5\x00\r\n", [(b"A", b"b Content-Length: 5")]),
        (b"A: b\r\r\n", [(b"A", b"b")]),
        (b"A:b\nC:d\n", [(b"A", b"b"), (b"C", b"d")]),
        (b"A: \xff\xfc\r\n", [(b"A", b"\xff\xfc")]),
        (b"", []),
    ],
)
def test_odd_lines_of_an_answer_are_repaired_or_dropped(
    sent: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    said = answer(OK + sent + b"\r\n")
    assert said.headers == headers
    again = format_head(b"HTTP/1.1 200 OK", said.headers)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(again)
    event = client.next_event()
    assert isinstance(event, h11.Response)
    assert list(event.headers.raw_items()) == headers


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 200", 200, b""),
        (b"HTTP/1.1 200 ", 200, b""),
        (b"http/1.0 404 Not Found", 404, b"Not Found"),
        (b"HTTP/2 200 OK", 200, b"OK"),
        (b"HTTP 200 OK", 200, b"OK"),
        (b"ICY 200 OK", 200, b"OK"),
        (b"HTTP/1.1\t 500   Gr\xfc\xdfe \x07\r", 500, b"Gr\xfc\xdfe"),
        (b"HTTP/1.1 999 Who Knows", 999, b"Who Knows"),
    ],
)
def test_first_lines_of_answers_that_are_accepted(line: bytes, status: int, reason: bytes) -> None:
    for before in (b"", b"\r\n", b"\n\n"):
        said = answer(before + line + b"\r\n\r\n")
        assert (said.status, said.reason) == (status, reason)


@pytest.mark.parametrize(
    "beginning",
    [
        *(b"SSH-2.0-OpenSSH_9.2", b"\x15\x03\x01\x00\x02\x02\x46", b"<html>", b"220 mail ESMTP"),
        *(b"HTTP/1.1 abc\r\n", b"HTTP/1.1 20\r\n", b"HTTP/1.1 2000 OK\r\n", b"HTTPS/1.1 200 OK\n"),
        *(b"HTTP/1.1 099 no\r\n", b"HTX", b"HTTP/1.1\r\n\r\n"),
    ],
)
def test_bytes_that_are_not_http_are_refused_at_once(beginning: bytes) -> None:
    with pytest.raises(
        ProtocolError, match="the destination's answer is not proper HTTP"
    ) as caught:
        parse_answer(beginning)
    assert caught.value.stage == ANSWER


@pytest.mark.parametrize("end", range(1, 16))
def test_an_incomplete_head_asks_for_more(end: int) -> None:
    assert parse_answer(b"\r\nHTTP/1.1 200 "[:end]) is None
    assert parse_request(b"\r\nGET / HTTP/1.1\r\n"[:end]) is None


@pytest.mark.parametrize(
    ("status", "framing", "kept", "body"),
    [
        (200, [b"Content-Length: 5, 5"], [b"Content-Length: 5"], Sized),
        (200, [b"Content-Length: 5"] * 2, [b"Content-Length: 5"], Sized),
        (200, [], [], UntilClose),
        (200, [b"Transfer-Encoding: Chunked"], [b"Transfer-Encoding: chunked"], Chunked),
        (200, [b"Transfer-Encoding: chunked"] * 2, [b"Transfer-Encoding: chunked"], Chunked),
        (200, [b"Transfer-Encoding: chunked, chunked"], [b"Transfer-Encoding: chunked"], Chunked),
        (
            200,
            [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
            [b"Transfer-Encoding: chunked"],
            Chunked,
        ),
        (
            200,
            [b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"],
            [b"Transfer-Encoding: gzip, chunked"],
            Chunked,
        ),
        (200, [b"Transfer-Encoding: zip", b"Content-Length: 5"], [b"Transfer-Encoding: zip"], None),
        (
            200,
            [b"Transfer-Encoding: identity", b"Content-Length: 5"],
            [b"Content-Length: 5"],
            Sized,
        ),
        (204, [b"Content-Length: 5", b"Transfer-Encoding: chunked"], [], Sized),
        (304, [b"Content-Length: 5"], [b"Content-Length: 5"], Sized),
        (103, [b"Content-Length: 5"], [], Sized),
        (101, [b"Content-Length: 5"], [], UntilClose),
    ],
)
def test_the_end_of_an_answer_is_framed_in_one_way(
    status: int, framing: list[bytes], kept: list[bytes], body: type | None
) -> None:
    said = answer(b"\r\n".join([b"HTTP/1.1 %d X" % status, *framing, b"", b""]))
    assert [b"%b: %b" % header for header in said.headers] == kept
    assert isinstance(said.body, body or UntilClose)
    assert said.body.is_over == (status in {103, 204, 304})


def test_an_answer_to_head_has_no_body() -> None:
    for framing in (b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: y"):
        assert answer(OK + framing + b"\r\n\r\n", to_head=True).body.is_over


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: five\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n",
        b"A: b\r\n" * (MAX_FIELDS + 1),
    ],
)
def test_an_ambiguous_answer_is_refused(lines: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_answer(OK + lines + b"\r\n")
    assert caught.value.stage == ANSWER


@given(
    st.lists(
        st.tuples(
            st.from_regex(rb"[!#-'*+.0-9A-Z^-z|~-]{1,9}", fullmatch=True),
            st.binary(max_size=9).map(lambda value: value.translate(None, b"\r\n")),
        ),
        max_size=5,
    )
)
def test_an_answer_survives_being_written_and_read(headers: list[tuple[bytes, bytes]]) -> None:
    head = format_head(b"HTTP/1.1 418 Teapot", headers)
    try:
        said = answer(head)
    except ProtocolError:
        return
    again = answer(format_head(b"HTTP/1.1 418 Teapot", said.headers))
    assert (again.headers, type(again.body)) == (said.headers, type(said.body))


@given(st.integers(1, 300), st.sampled_from([b"\r\n\r\n", b"\n\n", b"\n\r\n", b"\r\n\n"]))
def test_a_partial_head_is_parsed_again_where_it_may_end(left: int, end: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 60 + b"c: d" + end
    known = len(head) - left
    assert parse_answer(head[:known]) is None
    assert parse_answer(head) is not None
    assert may_be_over(head, known)
    assert not may_be_over(head[:-1], 300)
