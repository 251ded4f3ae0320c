"""Where the body of an HTTP/1 message ends (RFC 9112 §6, §7); sans I/O.

A body looks at the bytes of a stream and says how many of them belong to it. It keeps none, except
for the beginning of a line between two chunks (``MAX_LINE`` bytes). What it accepts is passed on as
it came, so a receiver must not be able to read it in another way:

| accepted | why no receiver reads it otherwise |
|---|---|
| zeros before a chunk's size, spaces behind it | they are ignored, or an error |
| chunk extensions, without control characters | all skip them up to the end of the line |
| lines that end in LF alone, without an extension, in answers | the same, or an error |
| trailers; in requests no framing and no Host among them | none of them says where anything ends |

Everything else is an error: a size without digits or with a sign, bytes between a chunk's data and
its CRLF, a lone CR, a stream that ends before its body does.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Final

from circumvent.errors import ProtocolError

REQUEST: Final = "request"  # stages of errors: which message is wrong
ANSWER: Final = "answer"

MAX_LINE = 2048  # bytes, between chunks and of one trailer
MAX_TRAILERS = 16 * 1024  # bytes, together
FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))
TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]*"

_DIGITS = rb"(0*[0-9A-Fa-f]{1,15})[ \t]*"  # fits 64 bits, signed
_SIZE = re.compile(_DIGITS + rb"(?:;" + TEXT + rb")?\r\n")
_BARE_SIZE = re.compile(_DIGITS + rb"\n")
_TRAILER = re.compile(rb"(" + TOKEN + rb"):" + TEXT + rb"\r\n")
_BARE_TRAILER = re.compile(TEXT + rb"\r?\n")
_LINE_END = re.compile(rb"\n")


class Body(ABC):
    """Finds the end of one body; ``is_over`` once all of it was taken."""

    __slots__ = ("is_over", "stage")

    def __init__(self, stage: str, *, is_over: bool = False) -> None:
        self.stage = stage
        self.is_over = is_over

    @abstractmethod
    def take(self, view: memoryview) -> int:
        """How many bytes at the beginning of ``view`` belong to the body.

        Raises ProtocolError for bytes that no body may have there.
        """

    def end(self) -> None:
        """Note that the stream ended; raises ProtocolError if the body is not complete."""
        if not self.is_over:
            raise ProtocolError(f"the {self.stage} ended before its body did", stage=self.stage)


class Sized(Body):
    """A body whose length in bytes is known; it may be 0."""

    __slots__ = ("_left",)

    def __init__(self, stage: str, length: int) -> None:
        super().__init__(stage, is_over=not length)
        self._left = length

    def take(self, view: memoryview) -> int:
        count = min(len(view), self._left)
        self._left -= count
        self.is_over = not self._left
        return count


class UntilClose(Body):
    """A body that ends where the stream ends."""

    __slots__ = ()

    def take(self, view: memoryview) -> int:
        return len(view)

    def end(self) -> None:
        self.is_over = True


class Chunked(Body):
    """Chunks and trailers (RFC 9112 §7.1), passed on as they are.

    With ``unwraps`` only the data of the chunks is passed on, moved together within the view.
    """

    __slots__ = ("_begun", "_left", "_read_line", "_trailers", "unwraps")

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.unwraps = False
        self._left = 0  # bytes of the chunk that are still to come
        self._begun = b""  # of a line
        self._trailers = 0  # bytes
        self._read_line = self._read_size

    def take(self, view: memoryview) -> int:
        at = kept = 0
        while at < len(view) and not self.is_over:
            if not self._left:
                at = self._take_line(view, at)
                continue
            count = min(self._left, len(view) - at)
            if self.unwraps:
                view[kept : kept + count] = view[at : at + count]
                kept += count
            self._left -= count
            at += count
        return kept if self.unwraps else at

    def _take_line(self, view: memoryview, at: int) -> int:
        """Where the line ends, or the part of it that has come."""
        begun = self._begun
        room = MAX_LINE - len(begun)
        end = _LINE_END.search(view, at, at + room)
        if end is None:
            if len(view) - at >= room:
                raise self._wrong("a line between chunks that never ends")
            self._begun = begun + bytes(view[at:])
            return len(view)
        self._begun = b""
        self._read_line(begun + bytes(view[at : end.end()]))
        return end.end()

    def _read_size(self, line: bytes) -> None:
        size = _SIZE.fullmatch(line)
        if size is None and self.stage == ANSWER:
            size = _BARE_SIZE.fullmatch(line)
        if size is None:
            raise self._wrong("a chunk without a proper size")
        self._left = int(size[1], 16)
        self._read_line = self._read_data_end if self._left else self._read_trailer

    def _read_data_end(self, line: bytes) -> None:
        if not self._is_empty(line):
            raise self._wrong("a chunk that is longer than its size")
        self._read_line = self._read_size

    def _read_trailer(self, line: bytes) -> None:
        self._trailers += len(line)
        if self._is_empty(line):
            self.is_over = True
        elif self._trailers > MAX_TRAILERS or not self._is_trailer(line):
            raise self._wrong("trailers that are none, or too long")

    def _is_empty(self, line: bytes) -> bool:
        return line == b"\r\n" or (line == b"\n" and self.stage == ANSWER)

    def _is_trailer(self, line: bytes) -> bool:
        if self.stage == ANSWER:
            return _BARE_TRAILER.fullmatch(line) is not None
        trailer = _TRAILER.fullmatch(line)
        return trailer is not None and trailer[1].lower() not in FRAMING | {b"host"}

    def _wrong(self, what: str) -> ProtocolError:
        return ProtocolError(f"the {self.stage}'s body has {what}", stage=self.stage)
