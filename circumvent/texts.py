"""Text that people made with whatever editor they have.

UTF-8, or UTF-16 behind its byte order mark; lines end in LF, CR or both. None of that is part of
what was written, so whoever reads a text gets it without.
"""

from __future__ import annotations

import codecs
import sys
from pathlib import Path

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_text(data: bytes, errors: str = "strict") -> str:
    """The text without a byte order mark, each line ended by LF; raises UnicodeDecodeError.

    ``errors="replace"`` is for lists, of which one odd line must not cost the others.
    """
    text = data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: Path, errors: str = "strict") -> str:
    """The text of a file; raises OSError, UnicodeDecodeError."""
    return decode_text(path.read_bytes(), errors)


def read_stdin() -> str:
    """The text on standard input; what is no text becomes U+FFFD."""
    return decode_text(sys.stdin.buffer.read(), "replace")
