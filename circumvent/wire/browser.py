"""What Chrome says over HTTP/1.1: header fields, in its order.

Taken from Chromium 150 as it sends them; ``VERSION`` and the brands that go with it (Chromium
shuffles them by version) are those of November 2026 and grow old. TLS and HTTP/2 do not match yet.
"""

from __future__ import annotations

import base64
import os
import random

VERSION = 156
USER_AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    f"Chrome/{VERSION}.0.0.0 Safari/537.36"
)
LANGUAGES = "en-US,en;q=0.9"
_BRANDS = f'"Not:A-Brand";v="8", "Chromium";v="{VERSION}", "Google Chrome";v="{VERSION}"'
COOKIES = (20, 400)  # characters of what stands beside the one cookie that matters
_PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*"

Headers = list[tuple[str, str]]


def page_headers(host: str, cookie: str) -> Headers:
    """Of a page that is visited in clear."""
    return [
        ("Host", host),
        ("Connection", "keep-alive"),
        ("Upgrade-Insecure-Requests", "1"),
        ("User-Agent", USER_AGENT),
        ("Accept", f"{_PAGE};q=0.8,application/signed-exchange;v=b3;q=0.7"),
        ("Accept-Encoding", "gzip, deflate"),
        ("Accept-Language", LANGUAGES),
        ("Cookie", cookie),
    ]


def page_request(host: str, path: str, sizes: tuple[int, int]) -> bytes:
    """A whole request, whose length is drawn between these two: its cookie fills it up."""
    length = random.randint(*sizes)  # noqa: S311 - no secret
    name = "session="
    missing = length - len(_page_request(host, path, name))
    return _page_request(host, path, name + _letters(missing))


def _page_request(host: str, path: str, cookie: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", *map(": ".join, page_headers(host, cookie)), "", ""]
    return "\r\n".join(lines).encode()


def _letters(count: int) -> str:
    return base64.urlsafe_b64encode(os.urandom(max(count, 0)))[: max(count, 0)].decode()


def _beside(cookie: str) -> str:
    """``cookie`` and another one, of a length that is drawn: else that of requests would be one."""
    return f"{cookie}; recent={_letters(random.randint(*COOKIES))}"  # noqa: S311 - no secret


def fetch_headers(host: str, cookie: str, body: bytes | None = None) -> Headers:
    """Of what a page's script asks its own site for over TLS, or hands to it."""
    is_post = body is not None
    return [
        ("Host", host),
        ("Connection", "keep-alive"),
        *([("Content-Length", str(len(body)))] if body is not None else []),
        ("sec-ch-ua-platform", '"Windows"'),
        ("User-Agent", USER_AGENT),
        ("sec-ch-ua", _BRANDS),
        ("sec-ch-ua-mobile", "?0"),
        ("Accept", "*/*"),
        *([("Origin", f"https://{host}")] if is_post else []),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "cors"),
        ("Sec-Fetch-Dest", "empty"),
        ("Referer", f"https://{host}/"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", LANGUAGES),
        ("Cookie", _beside(cookie)),
    ]


def socket_headers(host: str, cookie: str) -> Headers:
    """Of a page's script that asks its own site for a WebSocket; what every one has is left out."""
    return [
        ("User-Agent", USER_AGENT),
        ("Origin", f"https://{host}"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", LANGUAGES),
        ("Cookie", _beside(cookie)),
    ]
