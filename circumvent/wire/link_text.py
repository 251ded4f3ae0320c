"""Which characters a link's text may hold, and how its name is shown."""

from __future__ import annotations

import re
from urllib.parse import unquote

from circumvent.errors import LinkError

MAX_LINK = 4096  # characters; the largest QR code holds 2953 bytes
MAX_NAME = 100  # characters that are shown; advertisements are longer

# Control characters, characters that reverse text on a terminal, halves of surrogate pairs.
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Characters that are invisible, that reorder text, that end a line or control a terminal.
UNSEEN = "\u00ad\u061c\u200b\u200e\u200f\u2060\ufeff"  # marks and places to break a line
HIDDEN = UNSEEN + "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_NOT_SHOWN = re.compile(f"[{HIDDEN}\ud800-\udfff]")
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def check_text(text: str) -> str:
    """Trim a link's text; raises LinkError when it is too long or holds what no link holds."""
    text = text.strip()
    if len(text) > MAX_LINK:
        raise LinkError(f"link: longer than {MAX_LINK} characters; copy one link only")
    if not is_clean(text):
        raise LinkError("link: holds a space, a line break or a control character; copy it again")
    if "\ufffd" in text:  # decoders put it in place of bytes that they cannot read
        raise LinkError("link: holds what is no text; copy it again")
    return text


def is_clean(text: str) -> bool:
    """Whether ``text`` holds only what a link may hold: a space at most in its name."""
    return not UNSAFE.search(text) and " " not in text.partition("#")[0]


def parse_name(text: str) -> str:
    """The name behind a ``#`` as one short line to show, whatever it holds.

    It is only for people, so nothing in it is an error. Where a list lost a line end, another link
    follows the name: that is not shown.
    """
    decoded = unquote(text[:MAX_LINK], errors="replace")
    shown, another_link, _ = _NOT_SHOWN.sub("", _BREAKS.sub(" ", decoded)).partition("://")
    if another_link:
        shown = shown.rpartition(" ")[0]
    return shown.strip()[:MAX_NAME].rstrip()
