"""Heads as a proxy passes them on, without any connection."""

import pytest

from circumvent.errors import ProtocolError
from circumvent.wire.http_forwarding import MAX_ANSWER_HEAD, ForwardedHeads, request_head
from circumvent.wire.http_heads import HttpRequest, HttpResponse, parse_request
from circumvent.wire.http_proxy import parse_absolute

GET = b"GET http://site.test/a HTTP/1.1\r\nHost: x\r\n"
OLD = b"GET http://site.test/a HTTP/1.0\r\n"
UPGRADE = GET + b"Connection: Upgrade\r\nUpgrade: echo\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


def request(head: bytes) -> HttpRequest:
    found = parse_request(head + b"\r\n")
    assert found is not None
    return found[0]


def take(
    heads: ForwardedHeads, data: bytes, *, is_closing: bool = False
) -> tuple[bytes, int, HttpResponse | None]:
    return heads.take_answers(memoryview(data), 0, is_closing=is_closing)


def test_the_origin_gets_its_own_host_and_no_hop_by_hop_headers() -> None:
    asked = request(GET + b"Proxy-Connection: keep-alive\r\nX-Kept: 1\r\n")
    target = parse_absolute(asked.target, asked.method)
    expected = b"GET /a HTTP/1.1\r\nHost: site.test\r\nX-Kept: 1\r\nConnection: close\r\n\r\n"
    assert request_head(asked, target) == expected


def test_an_upgrade_is_passed_on() -> None:
    asked = request(UPGRADE)
    head = request_head(asked, parse_absolute(asked.target, asked.method))
    assert head.endswith(b"\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")


def test_informational_answers_come_before_the_final_one() -> None:
    data = HINTS + OK + b"\r\nok"
    seen, end, answer = take(ForwardedHeads(request(GET)), data)
    assert seen == HINTS + OK + b"\r\n"
    assert data[end:] == b"ok"
    assert answer is not None
    assert answer.status == 200


def test_an_old_client_gets_the_final_answer_only_and_no_second_request() -> None:
    heads = ForwardedHeads(request(OLD))
    seen, _, _ = take(heads, HINTS + OK + b"\r\n")
    assert seen == OK + b"Connection: close\r\n\r\n"
    assert not heads.keeps_alive


def test_an_old_client_gets_the_data_of_chunks() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    seen, _, answer = take(ForwardedHeads(request(OLD)), chunked)
    assert b"Transfer-Encoding" not in seen
    assert answer is not None
    block = memoryview(bytearray(b"2\r\nok\r\n0\r\n\r\n"))
    assert bytes(block[: answer.body.take(block)]) == b"ok"


@pytest.mark.parametrize(
    ("asked", "answer", "is_closing", "keeps_alive"),
    [
        (GET, OK, False, True),
        (GET, OK, True, False),
        (GET, b"HTTP/1.1 200 OK\r\n", False, False),  # its body ends with the connection
        (GET + b"Connection: close\r\n", OK, False, False),
    ],
)
def test_a_connection_is_kept_where_both_sides_can(
    asked: bytes, answer: bytes, *, is_closing: bool, keeps_alive: bool
) -> None:
    heads = ForwardedHeads(request(asked))
    seen, _, _ = take(heads, answer + b"\r\n", is_closing=is_closing)
    assert heads.keeps_alive is keeps_alive
    assert (b"Connection: close" in seen) is not keeps_alive


def test_a_switch_that_was_asked_for_ends_http() -> None:
    heads = ForwardedHeads(request(UPGRADE))
    seen, end, answer = take(heads, SWITCH + b"raw")
    assert (seen, end) == (SWITCH, len(SWITCH))
    assert answer is not None
    assert not heads.keeps_alive


def test_a_switch_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(ProtocolError, match="nobody asked for"):
        take(ForwardedHeads(request(GET)), SWITCH)


def test_an_incomplete_head_is_left_for_later() -> None:
    data = HINTS + OK
    assert take(ForwardedHeads(request(GET)), data) == (HINTS, len(HINTS), None)


def test_a_head_without_end_is_refused() -> None:
    data = OK + b"X: " + bytes(MAX_ANSWER_HEAD)
    with pytest.raises(ProtocolError, match="256 KiB"):
        take(ForwardedHeads(request(GET)), data)
