"""Heads of HTTP/1 messages (RFC 9112): read leniently, written strictly; sans I/O.

A proxy that is stricter than the programs on both sides of it breaks sites that work without it. So
what browsers and servers accept elsewhere is accepted here, but it is written out in the one way
that no program can misread:

| accepted | in | written out |
|---|---|---|
| empty lines before the first line (§2.2) | both | not |
| lines that end in LF alone (§2.2) | both | with CRLF |
| bytes above 0x7F in target, values and reason | both | as they are |
| no Host at all | requests | with the target's host |
| one length several times (§6.3) | both | once |
| spaces before the colon (§5.1), folded lines (§5.2) | answers | without |
| lines that are no header (a warning of PHP) | answers | not |
| control characters and lone CR in values and reason | answers | as spaces |
| any version of HTTP, "ICY", no reason | answers | as HTTP/1.1 |
| a length beside a Transfer-Encoding (§6.3), or with 1xx and 204 | answers | without it |
| "identity", and "chunked" again and again | answers | as "chunked", if that is left |

What could make two readers of a *request* disagree about where it ends is refused: two lengths, a
length with a Transfer-Encoding, codings of which the last is not chunked, two Hosts, spaces before
the colon, folded lines, control characters, HTTP/0.9. Of an *answer*: two lengths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from circumvent.errors import ProtocolError, UnsupportedError
from circumvent.wire.http_bodies import (
    ANSWER,
    FRAMING,
    REQUEST,
    TEXT,
    TOKEN,
    Body,
    Chunked,
    Sized,
    UntilClose,
)

MAX_FIELDS = 1000  # of one answer; each becomes an object for a moment
SWITCHING_PROTOCOLS: Final = 101
_OK, _NO_CONTENT, _NOT_MODIFIED = 200, 204, 304
_MAX_DIGITS = 18  # of a length; fits 64 bits, signed

_GLANCE = 256  # bytes that show whether an answer is HTTP

Bytes: TypeAlias = bytes | memoryview
Headers: TypeAlias = list[tuple[bytes, bytes]]

_EMPTY_LINES = re.compile(rb"[\r\n]*")
_END = re.compile(rb"\n\r?\n")
_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/1\.([0-9])")
_STATUS_LINE = re.compile(
    rb"(?:HTTP(?:/[0-9.]*)?|ICY)[ \t]+([1-9][0-9]{2})(?![0-9])[ \t]*(.*)", re.IGNORECASE | re.DOTALL
)
_FIELD = re.compile(rb"(" + TOKEN + rb"):(" + TEXT + rb")")
_NAME = re.compile(TOKEN)
_BLANK = b" \t"
_CONTROLS = bytes(range(0x20)).replace(b"\t", b"") + b"\x7f"
_LEGIBLE = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request; ``is_old`` is HTTP/1.0."""

    method: bytes
    target: bytes
    is_old: bool
    headers: Headers
    body: Body


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer; ``is_final`` unless another one to the same request follows."""

    status: int
    reason: bytes
    headers: Headers
    body: Body

    @property
    def is_final(self) -> bool:
        """Whether no other answer follows."""
        return self.status >= _OK or self.status == SWITCHING_PROTOCOLS


def parse_request(data: bytes) -> tuple[HttpRequest, int] | None:
    """Read a head, and where its body begins; None while it has no end.

    Raises ProtocolError, and UnsupportedError for a transfer coding that is not implemented.
    """
    start, end = _bounds(data)
    if end is None:
        return None
    first, *lines = _lines(bytes(data[start:end]))
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise _bad_request("the first line is not of the form METHOD TARGET HTTP/1.1")
    headers = [_strict_field(number, line) for number, line in enumerate(lines, 2)]
    if len(_values(headers, b"host")) > 1:
        raise _bad_request("there are two Host headers")
    is_old = line[3] == b"0"
    headers, body = _request_framing(headers, is_old=is_old)
    return HttpRequest(line[1], line[2], is_old, headers, body), end


def parse_answer(data: Bytes, *, to_head: bool = False) -> tuple[HttpResponse, int] | None:
    """Read a head, and where its body begins; None while it has no end.

    ``to_head``: the request was HEAD. Raises ProtocolError, as soon as it cannot be HTTP.
    """
    start, end = _bounds(data)
    if end is None:
        _check_beginning(bytes(data[start : start + _GLANCE]))
        return None
    first, *lines = _lines(bytes(data[start:end]))
    line = _match_status(first)
    if len(lines) > MAX_FIELDS:
        raise _bad_answer(f"its head has more than {MAX_FIELDS} lines")
    status = int(line[1])
    headers, body = _answer_framing(status, _lenient_fields(lines), to_head=to_head)
    return HttpResponse(status, line[2].translate(_LEGIBLE).strip(), headers, body), end


def may_be_over(data: Bytes, known: int) -> bool:
    """Whether ``data`` may now hold a whole head, when none ended in its first ``known`` bytes."""
    return known < _GLANCE or _END.search(data, known - 2) is not None


def format_head(first: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A whole head, with its empty line."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"%b\r\n%b\r\n" % (first, lines)


def tokens(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The elements of all headers of that (lower-case) name, in lower case."""
    listed = b",".join(_values(headers, name)).split(b",")
    return [token for each in listed if (token := each.strip(_BLANK).lower())]


def _bounds(data: Bytes) -> tuple[int, int | None]:
    """Where the first line begins, and where the head is over."""
    empty = _EMPTY_LINES.match(data)
    start = empty.end() if empty else 0
    end = _END.search(data, start)
    return start, end.end() if end else None


def _lines(head: bytes) -> list[bytes]:
    return [line.removesuffix(b"\r") for line in head.split(b"\n")[:-2]]


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for each, value in headers if each.lower() == name]


def _strict_field(number: int, line: bytes) -> tuple[bytes, bytes]:
    field = _FIELD.fullmatch(line)
    if field is None:
        raise _bad_request(f"line {number} is not of the form NAME: VALUE")
    return field[1], field[2].strip(_BLANK)


def _lenient_fields(lines: Iterable[bytes]) -> Headers:
    headers: Headers = []
    is_ours = False  # the field that a folded line would continue
    for line in lines:
        if is_ours and line.startswith((b" ", b"\t")):
            name, value = headers[-1]
            more = line.translate(_LEGIBLE).strip(_BLANK)
            headers[-1] = name, (b"%b %b" % (value, more)).strip(_BLANK)
            continue
        name, colon, value = line.partition(b":")
        name = name.rstrip(_BLANK)
        is_ours = bool(colon) and _NAME.fullmatch(name) is not None
        if is_ours:
            headers.append((name, value.translate(_LEGIBLE).strip(_BLANK)))
    return headers


def _request_framing(headers: Headers, *, is_old: bool) -> tuple[Headers, Body]:
    codings = tokens(headers, b"transfer-encoding")
    lengths = _values(headers, b"content-length")
    if not _values(headers, b"transfer-encoding"):
        length = _length(lengths, _bad_request)
        return _framed(headers, length), Sized(REQUEST, length or 0)
    if lengths:
        raise _bad_request("it has a Content-Length and a Transfer-Encoding")
    if is_old:
        raise _bad_request("HTTP/1.0 has no Transfer-Encoding")
    if codings[-1:] != [b"chunked"] or codings.count(b"chunked") > 1:
        raise _bad_request("its Transfer-Encoding does not end in one chunked")
    if len(codings) > 1:
        raise UnsupportedError("the request is coded in another way than chunked", stage=REQUEST)
    return _framed(headers, codings), Chunked(REQUEST)


def _answer_framing(status: int, headers: Headers, *, to_head: bool) -> tuple[Headers, Body]:
    """RFC 9112 §6.3."""
    if status == SWITCHING_PROTOCOLS:
        return _framed(headers, None), UntilClose(ANSWER)
    if status < _OK or status == _NO_CONTENT:
        return _framed(headers, None), Sized(ANSWER, 0)
    body: Body
    codings = [each for each in tokens(headers, b"transfer-encoding") if each != b"identity"]
    if set(codings) == {b"chunked"}:
        codings = [b"chunked"]
    if b"chunked" in codings[:-1]:
        raise _bad_answer("its body is coded once more after it was chunked")
    if codings:
        headers = _framed(headers, codings)
        body = Chunked(ANSWER) if codings[-1] == b"chunked" else UntilClose(ANSWER)
    else:
        length = _length(_values(headers, b"content-length"), _bad_answer)
        headers = _framed(headers, length)
        body = UntilClose(ANSWER) if length is None else Sized(ANSWER, length)
    return headers, Sized(ANSWER, 0) if to_head or status == _NOT_MODIFIED else body


def _length(values: list[bytes], bad: Callable[[str], ProtocolError]) -> int | None:
    """The one length that all ``values`` give, None without any."""
    if not values:
        return None
    given = {digits.strip(_BLANK) for digits in b",".join(values).split(b",")}
    if not all(digits.isdigit() and len(digits) <= _MAX_DIGITS for digits in given):
        raise bad("its Content-Length is no number")
    lengths = {int(digits) for digits in given}
    if len(lengths) > 1:
        raise bad("it has several different lengths")
    return lengths.pop()


def _framed(headers: Headers, framing: int | list[bytes] | None) -> Headers:
    """The headers with one framing header, in the place of the first one."""
    kept: Headers = []
    for name, value in headers:
        if name.lower() not in FRAMING:
            kept.append((name, value))
        elif framing is not None:
            if isinstance(framing, int):
                kept.append((b"Content-Length", b"%d" % framing))
            else:
                kept.append((b"Transfer-Encoding", b", ".join(framing)))
            framing = None
    return kept


def _check_beginning(data: bytes) -> None:
    first, newline, _ = data.partition(b"\n")
    if newline:
        _match_status(first)
    elif not any(start.startswith(first[: len(start)].upper()) for start in (b"HTTP", b"ICY")):
        raise _bad_answer("it does not begin with HTTP/1.1")


def _match_status(first: bytes) -> re.Match[bytes]:
    line = _STATUS_LINE.fullmatch(first)
    if line is None:
        raise _bad_answer("its first line is not of the form HTTP/1.1 STATUS REASON")
    return line


def _bad_request(what: str) -> ProtocolError:
    return ProtocolError(f"the request is not proper HTTP/1.1: {what}", stage=REQUEST)


def _bad_answer(what: str) -> ProtocolError:
    return ProtocolError(f"the destination's answer is not proper HTTP: {what}", stage=ANSWER)
