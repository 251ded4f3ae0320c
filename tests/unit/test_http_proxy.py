import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.errors import ProtocolError
from circumvent.wire.address import Destination
from circumvent.wire.http_proxy import (
    end_to_end,
    parse_absolute,
    parse_authority,
    parse_basic,
    plain_response,
    upgrade_of,
)


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        (b"site.example:443", "site.example", 443),
        (b"192.0.2.1:80", "192.0.2.1", 80),
        (b"[2001:db8::1]:443", "2001:db8::1", 443),
    ],
)
def test_an_authority_is_host_and_port(authority: bytes, host: str, port: int) -> None:
    assert parse_authority(authority) == Destination(host, port)


@pytest.mark.parametrize(
    "authority",
    [
        *(b"", b":", b":80", b"site", b"site:", b"site:0", b"site:65536", b"site:+1", b"site:8 0"),
        *(b"2001:db8::1:443", b"[::1]", b"[::1]x:80", b"[site]:80", b"[::1:80", b"[::g]:80"),
        *(b"a b:80", b"[fe80::1%25eth0]:80", b"site:\xc2\xb2"),
    ],
)
def test_a_wrong_authority_is_refused(authority: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_authority(authority)


@pytest.mark.parametrize(
    ("target", "destination", "authority", "path"),
    [
        (b"http://site/a?b#c", Destination("site", 80), b"site", b"/a?b"),
        (b"HTTP://site:8080", Destination("site", 8080), b"site:8080", b"/"),
        (b"http://site?q=/", Destination("site", 80), b"site", b"/?q=/"),
        (b"http://me:secret@site/", Destination("site", 80), b"site", b"/"),
        (b"http://[::1]/x", Destination("::1", 80), b"[::1]", b"/x"),
        (b"http://site/@x", Destination("site", 80), b"site", b"/@x"),
        (b"http://site:/", Destination("site", 80), b"site:", b"/"),
    ],
)
def test_an_absolute_target_names_the_destination_and_the_origins_target(
    target: bytes, destination: Destination, authority: bytes, path: bytes
) -> None:
    assert parse_absolute(target, b"GET") == (destination, authority, path)


def test_options_without_a_path_asks_the_whole_server() -> None:
    assert parse_absolute(b"http://site", b"OPTIONS").origin_form == b"*"


@pytest.mark.parametrize("target", [b"/", b"*", b"https://site/", b"http:///", b"http://", b"ftp"])
def test_other_targets_are_refused(target: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_absolute(target, b"GET")


@given(target=st.binary(max_size=60))
def test_any_target_is_parsed_or_refused(target: bytes) -> None:
    for text in (target, b"http://" + target, b"http://[" + target):
        for parse in (parse_authority, lambda text: parse_absolute(text, b"GET")):
            with contextlib.suppress(ProtocolError):
                parse(text)


def test_hop_by_hop_headers_are_not_passed_on() -> None:
    headers = [
        (b"Accept", b"*/*"),
        (b"Connection", b"Keep-Alive, X-Private"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Proxy-Authorization", b"Basic c2VjcmV0"),
        (b"TE", b"trailers"),
        (b"Upgrade", b"h2c"),
        (b"x-private", b"1"),
    ]
    assert end_to_end(headers) == [(b"Accept", b"*/*")]


def test_a_connection_header_cannot_name_the_framing() -> None:
    headers = [(b"Connection", b"Content-Length"), (b"Content-Length", b"5")]
    assert end_to_end(headers) == [(b"Content-Length", b"5")]


def test_an_upgrade_needs_both_headers() -> None:
    upgrade = (b"Upgrade", b"websocket")
    assert upgrade_of([upgrade]) == []
    assert upgrade_of([(b"Connection", b"upgrade")]) == []
    both = [(b"connection", b"keep-alive, Upgrade"), upgrade]
    assert upgrade_of(both) == [(b"Connection", b"Upgrade"), upgrade]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"Basic bWU6YTpi", (b"me", b"a:b")),
        (b"basic  bWU6", (b"me", b"")),
        (b"Bearer bWU6", None),
        (b"Basic !!", None),
        (b"Basic", (b"", b"")),
    ],
)
def test_basic_credentials(value: bytes, expected: tuple[bytes, bytes] | None) -> None:
    assert parse_basic(value) == expected


def test_a_plain_response_is_complete() -> None:
    response = plain_response(b"502 Bad Gateway", "no", (b"X", b"y"))
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"Content-Length: 3" in head
    assert body == b"no\n"
