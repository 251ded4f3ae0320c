"""The header fields of Chrome over HTTP/1.1, in its order.

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
COOKIES = (20, 400)  # characters of the cookie beside the one that matters
_PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*"

Headers = list[tuple[str, str]]


def page_headers(host: str, cookie: str) -> Headers:
    """The headers of a visit to a page, without TLS."""
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
    """A whole request of a random length between ``sizes``; its cookie makes up the length."""
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
    """``cookie`` and another one of a random length: or all requests would have one length."""
    return f"{cookie}; recent={_letters(random.randint(*COOKIES))}"  # noqa: S311 - no secret


def fetch_headers(host: str, cookie: str, body: bytes | None = None) -> Headers:
    """The headers of a script's request to its own site over TLS; with ``body`` it is a POST."""
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


def upgrade_headers(host: str) -> tuple[tuple[str, str], ...]:
    """The headers of a script that opens a WebSocket to its own site, without the handshake's."""
    return (
        ("User-Agent", USER_AGENT),
        ("Origin", f"https://{host}"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", LANGUAGES),
    )


def socket_headers(host: str, cookie: str) -> Headers:
    """The same with ``cookie``, and another one."""
    return [*upgrade_headers(host), ("Cookie", _beside(cookie))]
