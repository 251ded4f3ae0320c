"""Links as people paste them, and lists of links as people keep them.

Chats, pages and editors put quotes, blanks and characters that nobody sees around a link, numbers,
names and markup in front of it. They are no part of it; what is left is read strictly
(``uri.py``). ``list_reader.py`` reads whole lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from circumvent.errors import LinkError
from circumvent.texts import decode_text
from circumvent.wire.base64url import decode_base64
from circumvent.wire.link_text import HIDDEN, MAX_LINK, UNSAFE, UNSEEN, is_clean, parse_name

_SPACES = "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
_BLANK = _SPACES + "".join(map(chr, range(0x2000, 0x200B))) + "\u200c\u200d" + HIDDEN
_CURLY = "".join(map(chr, range(0x2018, 0x2020)))
_QUOTES = _BLANK + _CURLY + "\"'`<>\u00ab\u00b4\u00bb\u2039\u203a\uff02\uff07"
_SEPARATORS = ",;|\u3001\uff0c\uff1b"
_AFTER = _QUOTES + _SEPARATORS
_WITHIN = str.maketrans("", "", UNSEEN)  # programs also put them within a long word
_AMPERSAND = re.compile(r"&(?:amp;|#38;|#x26;)+", re.IGNORECASE)  # as in the source of a page
_START = re.compile(r"(?<![A-Za-z0-9=/%&?@#])[A-Za-z][A-Za-z0-9+.-]{0,15}://")
_NEXT = re.compile(rf"[{re.escape(_AFTER)}()\[\]](?!https?://){_START.pattern}", re.IGNORECASE)
_MARKUP = re.compile(r"<(?:/|br\b).*", re.IGNORECASE | re.DOTALL)
# Read backwards, up to a letter or a digit: the end of a sentence, symbols, brackets.
_TAIL = re.compile(r"\A(?:[\s\x00-\x1f\x7f,;.!?'\"`<>()\[\]{}|]|[^\w\x00-\x7f])+")
_CLOSING = dict(zip("<([{\u300c\u300e\u3010\uff08", ">)]}\u300d\u300f\u3011\uff09", strict=True))
_EMPHASIS = "*_~"
_REMARK = re.compile(r"[#;]|//|<!--|<(?!.*://)")
_PADDING = re.compile(r"=+")
DATA_URL = re.compile(r"\Adata:[^,]{0,100},", re.IGNORECASE)  # RFC 2397, as pages hold base64


def unwrap(text: str) -> str:
    """A pasted link without what stands around it; the same text when nothing does."""
    pasted = _AMPERSAND.sub("&", text.translate(_WITHIN)).strip(_BLANK)
    start = _START.search(pasted)
    link = _MARKUP.sub("", pasted[start.start() :] if start else pasted.lstrip(_QUOTES))
    before = pasted[: start.start() if start else len(pasted) - len(link)].rstrip(_BLANK)
    opening = before[-1:]
    if opening and opening in _EMPHASIS:
        link = link.rstrip(_EMPHASIS)
    elif closing := _CLOSING.get(opening, opening if "<" in before else ""):  # an attribute's quote
        link = link.partition(closing)[0]
    body, hash_sign, name = link.partition("#")
    if not hash_sign:
        return _TAIL.sub("", body[::-1])[::-1]
    # A quote at the end of a name may belong to it, unless the link began with one.
    is_quoted = opening and opening in _QUOTES
    return f"{body.rstrip(_BLANK)}#{name.rstrip(_AFTER if is_quoted else _BLANK)}"


def tidy(text: str) -> str:
    """A pasted link, unwrapped, that does no harm where links are kept and sent."""
    link = unwrap(text)
    if is_clean(link) and len(link) <= MAX_LINK:
        return link
    body, _, name = link.partition("#")
    body = UNSAFE.sub("", body.strip()).replace(" ", "%20")
    tidied = f"{body}#{quote(parse_name(name), safe='')}"
    return tidied if len(tidied) <= MAX_LINK else body


def split_links(line: str) -> Iterator[str]:
    """The links of a line, tidied: one, or several with something between them.

    Addresses of pages, with which names advertise, are none.
    """
    start = 0
    for found in _NEXT.finditer(line):
        if _START.search(line, start, found.start()):
            yield tidy(line[start : found.start()].rstrip(_AFTER))
            start = found.start()
    yield tidy(line[start:])


def unpack(text: str) -> str:
    """What a list in base64 holds, also in pieces that are padded each; else the same text."""
    bare = without_remarks(text)
    if "://" in bare:
        return text
    if is_packed_by_line(bare):
        return "\n".join(map(unpack, bare.split()))
    packed = "".join(word.strip(_QUOTES) for word in bare.split())
    try:
        pieces = [
            decode_base64("list", piece) for piece in _PADDING.split(DATA_URL.sub("", packed))
        ]
    except LinkError:
        return text
    unpacked = decode_text(b"\n".join(pieces), "replace")
    return unpacked if "://" in unpacked else text


def is_packed_by_line(text: str) -> bool:
    """Whether each line is in base64 by itself, and begins with a link."""
    lines = text.split()
    return len(lines) > 1 and all(_START.match(unpack(line)) for line in lines)


def links_of_line(line: str) -> Iterator[str]:
    """The links of one line of a list, tidied; none when it is empty, a remark or markup.

    A line may be in base64 by itself, beside others that are not.
    """
    if _is_remark(line):
        return
    for each in unpack(line).split("\n"):
        yield from (link for link in split_links(each) if link)


def without_remarks(text: str) -> str:
    """The lines that are neither remarks (``#``, ``//``) nor markup."""
    return "\n".join(line for line in text.split("\n") if not _is_remark(line))


def _is_remark(line: str) -> bool:
    return _REMARK.match(line.lstrip(_BLANK)) is not None
