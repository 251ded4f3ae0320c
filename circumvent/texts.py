"""Text files as any editor writes them.

They are UTF-8, or UTF-16 with a byte order mark, and lines end in LF, CR or both. These functions
return the text without byte order marks and with LF only.
"""

from __future__ import annotations

import codecs
import io
import sys
from pathlib import Path

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_text(data: bytes, errors: str = "strict") -> str:
    """The text without a byte order mark, each line ended by LF; raises UnicodeDecodeError.

    ``errors="replace"`` is for lists, where one broken line must not spoil the others.
    """
    text = data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


class TextDecoder:
    """``decode_text`` for what comes in pieces; what is no text becomes U+FFFD."""

    def __init__(self) -> None:
        self._first = b""
        self._decoder: io.IncrementalNewlineDecoder | None = None

    def decode(self, data: bytes, *, is_last: bool = False) -> str:
        """The text of one more piece, as far as it can be told already."""
        if self._decoder is None:
            self._first += data
            if len(self._first) < len(codecs.BOM_UTF16_LE) and not is_last:
                return ""
            encoding = "utf-16" if self._first.startswith(_UTF16) else "utf-8-sig"
            decoder = codecs.getincrementaldecoder(encoding)("replace")
            self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
            data = self._first
        return self._decoder.decode(data, final=is_last)


def read_text(path: Path, errors: str = "strict") -> str:
    """The text of a file; raises OSError, UnicodeDecodeError."""
    return decode_text(path.read_bytes(), errors)


def read_stdin() -> str:
    """The text on standard input; bytes that are no UTF-8 become U+FFFD."""
    return decode_text(sys.stdin.buffer.read(), "replace")
