"""Where requests begin on an HTTP/1.1 connection whose bytes go to somebody else; sans I/O.

Only what every server reads the same way is followed. At anything else (a lone line feed, two
lengths, chunks) the watch goes blind: whoever the bytes are for deals with them, and no request
behind them is looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_HEAD = 16 * 1024  # bytes; servers refuse more, so nothing of ours is longer
MAX_HEADERS = 64
_MAX_LENGTH_DIGITS = 18
_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]{1,8192}) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*([\x20-\x7e\x80-\xff\t]*)")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Header names are in lower case; what is named twice is joined with ``, `` (``; ``)."""

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]

    @property
    def length(self) -> int:
        """Bytes of the body; -1 where that is not said by one plain number."""
        if b"transfer-encoding" in self.headers:
            return -1
        digits = self.headers.get(b"content-length", b"0")
        return int(digits) if digits.isdigit() and len(digits) <= _MAX_LENGTH_DIGITS else -1


def parse_head(head: bytes) -> RequestHead | None:
    """Read a head without its empty line; None when servers might read it differently."""
    first, *lines = head.split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(first)
    if request is None or len(lines) > MAX_HEADERS:
        return None
    headers: dict[bytes, bytes] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            return None
        name, value = header[1].lower(), header[2].rstrip(b" \t")
        if name in headers:
            value = headers[name] + (b"; " if name == b"cookie" else b", ") + value
        headers[name] = value
    return RequestHead(request[1], request[2], headers)


class RequestWatch:
    """Finds the heads in what passes by; ``blind`` once it cannot tell any more."""

    __slots__ = ("_begun", "_body", "blind")

    def __init__(self) -> None:
        self._begun = b""  # of a head
        self._body = 0  # bytes of a body that are still to come
        self.blind = False

    def take(self, data: bytes, at: int = 0) -> tuple[int, RequestHead | None]:
        """Look at ``data`` from ``at`` on: up to where, and the head that ends there, if any."""
        skipped = min(self._body, len(data) - at)
        self._body -= skipped
        at += skipped
        if self.blind or at == len(data):
            return len(data), None
        return self._take_head(data, at)

    def _take_head(self, data: bytes, at: int) -> tuple[int, RequestHead | None]:
        seen = max(len(self._begun) - len(_END) + 1, 0)
        begun = len(self._begun)
        self._begun += data[at : at + MAX_HEAD + 1 - begun]
        end = self._begun.find(_END, seen)
        if end < 0:
            self.blind = len(self._begun) > MAX_HEAD
            return len(data), None
        head = parse_head(self._begun[:end])
        at += end + len(_END) - begun
        self._begun = b""
        self._expect_body(head)
        return at, head

    def _expect_body(self, head: RequestHead | None) -> None:
        """What follows an upgrade is no HTTP, if it is granted."""
        if head is None or head.length < 0 or b"upgrade" in head.headers:
            self.blind = True
        else:
            self._body = head.length
