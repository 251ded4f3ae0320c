"""Links as people paste them, and lists of links as people keep them.

Chats, pages and editors put quotes, blanks and characters that nobody sees around a link. They are
no part of it; what is left is read strictly (``links.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from circumvent.wire.links import HIDDEN, MAX_LINK, UNSEEN, is_clean, parse_name

_SPACES = "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
_BLANK = _SPACES + "".join(map(chr, range(0x2000, 0x200B))) + "\u200c\u200d" + HIDDEN
_CURLY = "".join(map(chr, range(0x2018, 0x2020)))
_QUOTES = _BLANK + _CURLY + "\"'`<>\u00ab\u00b4\u00bb\u2039\u203a\uff02\uff07"
_AFTER = _QUOTES + ",;\u3001\uff0c\uff1b"
_WITHIN = str.maketrans("", "", UNSEEN)  # programs also put them within a long word
_REMARK = re.compile(r"#|//|<(?!.*://)")


def unwrap(text: str) -> str:
    """A pasted link without what stands around it; the same text when nothing does."""
    pasted = text.strip(_BLANK)
    link = pasted.lstrip(_QUOTES)
    body, hash_sign, name = link.partition("#")
    body = body.translate(_WITHIN)
    if not hash_sign:
        return body.rstrip(_AFTER)
    # A quote at the end of a name may belong to it, unless the link began with one.
    return f"{body.rstrip(_BLANK)}#{name if link == pasted else name.rstrip(_AFTER)}"


def tidy(text: str) -> str:
    """A pasted link, unwrapped, whose name does no harm where links are kept and sent."""
    link = unwrap(text)
    if is_clean(link) and len(link) <= MAX_LINK:
        return link
    body, _, name = link.partition("#")
    tidied = f"{body}#{quote(parse_name(name), safe='')}"
    return tidied if len(tidied) <= MAX_LINK else body


def number_links(text: str) -> Iterator[tuple[int, str]]:
    """The links of a list, one a line, tidied, each with the number of its line from 1.

    Empty lines, comments (``#``, ``//``) and markup are left out; what else is no link is not.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        link = tidy(line)
        if link and not _REMARK.match(line.lstrip(_BLANK)):
            yield number, link
