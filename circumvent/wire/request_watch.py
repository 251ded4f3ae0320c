"""Finds requests that may knock among the bytes that pass to the cover site; sans I/O.

Behind a front, several people use one connection after the other, and any of them may send what
servers read differently: upgrades that are not granted, chunks, folded lines, two lengths. So the
watch does not follow requests. It looks for the end of a head, and reads backwards from there to
the last line that begins a request. What a stranger sent before that line changes nothing. A body
of a stranger may look like a request; but without the key it never knocks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_HEAD = 16 * 1024  # bytes; servers refuse longer heads, so those of our requests are shorter
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

    Header names are in lower case; values of one name are joined with ``, `` (cookies: ``; ``).
    """

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]

    @property
    def length(self) -> int:
        """Bytes of the body; -1 unless the head gives one plain number."""
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
    """Finds the heads in the bytes of one connection."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = b""  # the last bytes since the last head: another one may have begun in them

    def take(self, data: bytes, at: int = 0) -> tuple[int, RequestHead | None]:
        """Look at ``data`` from ``at`` on: where it stopped, and the head that ends there."""
        begun = len(self._begun)
        passed = self._begun + data[at:]
        end = passed.find(_END, max(begun - len(_END) + 1, 0))
        if end < 0:
            self._begun = passed[-MAX_HEAD:]
            return len(data), None
        self._begun = b""
        return at + end + len(_END) - begun, last_head(passed[max(end - MAX_HEAD, 0) : end])
