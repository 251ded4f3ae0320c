"""The address of a probe page: asked for as it was written, or one clear error."""

from __future__ import annotations

import pytest

from circumvent.config import Config
from circumvent.tunnels.probe import ProbeTarget


@pytest.mark.parametrize(
    ("url", "line", "host", "port"),
    [
        ("http://a.test/page?status=204&x=%20", "/page?status=204&x=%20", "a.test", 80),
        ("http://a.test?status=204", "/?status=204", "a.test", 80),
        (" HTTP://A.test ", "/", "a.test", 80),
        ("http://a.test.:8080/ü;p", "/%C3%BC;p", "a.test:8080", 8080),
        ("http://a.test:/", "/", "a.test", 80),
        ("http://straße.test/", "/", "xn--strae-oqa.test", 80),
        ("http://[2001:db8::1]/", "/", "[2001:db8::1]", 80),
        ("http://[2001:db8::1]:81/", "/", "[2001:db8::1]:81", 81),
    ],
)
def test_a_page_is_asked_for_as_it_was_written(url: str, line: str, host: str, port: int) -> None:
    target = ProbeTarget.parse(url)
    assert target.destination.port == port
    assert target.request().startswith(f"GET {line} HTTP/1.1\r\nHost: {host}\r\n".encode())


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://s3cret.test/", "speaks no TLS"),
        ("ftp://s3cret.test/", "not an http:// address"),
        ("s3cret.test/204", "write it as http://HOST/PATH"),
        ("http:///s3cret", "host: "),
        ("http://s3cret.test:0/", "port: "),
        ("http://s3cret.test:99999/", "port: "),
        ("http://s3cret.test:-1/", "port: "),
        ("http://s3cret.test:x/", "port: "),
        ("http://ann:s3cret@a.test/", "before '@'"),
        ("http://a.test/#s3cret", "behind '#'"),
        ("http://a.test/s3cret page", "without blanks"),
        ("http://a.test/s3cret\r\nHost: b", "without blanks"),
        ("http://a test/s3cret", "without blanks"),
        ("http://[::s3cret]/", "host: "),
        ("http://[::1/s3cret", "port: "),
        ("http://::1/s3cret", "brackets"),
        ("http://s3cret..test/", "host: "),
    ],
)
def test_what_is_no_page_is_told_without_repeating_it(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^probe_urls: number 2 ") as caught:
        Config(probe_urls=("http://a.test/", url))
    assert reason in str(caught.value)
    assert "s3cret" not in str(caught.value)
