"""Where a knocking request ends on a connection whose bytes go to somebody else; sans I/O.

Behind a front a connection is used again, by one person after the other, and whoever comes first
chooses what stands on it: upgrades that nobody grants, chunks, folded lines, two lengths. Servers
read such things differently, so the watch does not follow them at all. It looks at whatever ends
as a head does, and reads backwards from there to the last line that begins a request. What a
stranger put in front of that changes nothing; and what a stranger writes himself may look like a
request wherever it stands, for without the key it is never one that knocks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_HEAD = 16 * 1024  # bytes; servers refuse more, so nothing of ours is longer
MAX_HEADERS = 64
_MAX_LENGTH_DIGITS = 18
_END = b"\r\n\r\n"
_VERSION = b" HTTP/1.1\r\n"
_METHODS = (b"GET", b"POST")
_TARGET = re.compile(rb"[\x21-\x7e]{1,8192}")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*([\x20-\x7e\x80-\xff\t]*)")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """``method`` is GET, POST, or empty for every other.

    Header names are in lower case; what is named twice is joined with ``, `` (``; ``).
    """

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


def last_head(data: bytes) -> RequestHead | None:
    """Read the head that ``data`` ends with, without its empty line.

    None where there is none, and when servers might read it differently.
    """
    data += b"\r\n"
    version = data.rfind(_VERSION)
    space = data.rfind(b" ", 0, max(version, 0))
    target = data[space + 1 : version]
    if version < 0 or not _TARGET.fullmatch(target):
        return None
    method = next((each for each in _METHODS if data.endswith(each, 0, space)), b"")
    headers = _parse_headers(data[version + len(_VERSION) :])
    return None if headers is None else RequestHead(method, target, headers)


def _parse_headers(data: bytes) -> dict[bytes, bytes] | None:
    lines = data.split(b"\r\n")[:-1]
    if len(lines) > MAX_HEADERS:
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
    return headers


class RequestWatch:
    """Finds the heads in what passes by."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = b""  # the end of what passed since the last head: one may have begun in it

    def take(self, data: bytes, at: int = 0) -> tuple[int, RequestHead | None]:
        """Look at ``data`` from ``at`` on: up to where, and the head that ends there, if any."""
        begun = len(self._begun)
        passed = self._begun + data[at:]
        end = passed.find(_END, max(begun - len(_END) + 1, 0))
        if end < 0:
            self._begun = passed[-MAX_HEAD:]
            return len(data), None
        self._begun = b""
        return at + end + len(_END) - begun, last_head(passed[max(end - MAX_HEAD, 0) : end])
