"""Lists of links, read as they come: lists of tens of thousands are never held as a whole.

A list is text with links in it, one or more a line, or all of that in base64, or JSON that names
Shadowsocks servers (SIP008). Nothing in it is executed or fetched. The configuration of another
program is refused by its name, because its addresses are no servers.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from circumvent.errors import LinkError
from circumvent.links.pasted import (
    DATA_URL,
    is_packed_by_line,
    links_of_line,
    unpack,
    without_remarks,
)
from circumvent.texts import TextDecoder

HEAD = 4096  # characters after which it is known what a list is
MAX_JSON = 256 * 1024  # characters; JSON must be held as a whole
MAX_LINE = 64 * 1024  # characters; what lacks line ends is cut behind the last space
_CLASH = re.compile(r"^(proxies|proxy-groups|proxy-providers|mixed-port):", re.MULTILINE)
_CONFIGURATION = re.compile(r'"(outbounds|inbounds)"\s*:')
_NO_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")
_URL_SAFE = str.maketrans("-_", "+/")
_QUANTUM = 4  # characters of base64 that are decoded together


class ListReader:
    """Reads one list, piece by piece; gives each link with the number of its line, from 1.

    The links are tidied. Where all of a list is in base64, the lines are those within.
    """

    def __init__(self) -> None:
        self._head: str | None = ""  # None: what the list is, is known
        self._unpacker: _Unpacker | None = None
        self._lines = _Lines()

    def feed(self, text: str) -> Iterator[tuple[int, str]]:
        """The links of which ``text`` brings the end; raises LinkError for no list at all."""
        if self._head is not None:
            self._head += text
            if len(self._head) < (MAX_JSON if _may_be_json(self._head) else HEAD):
                return
            text, self._head = self._head, None
            _refuse_configuration(text[:HEAD])
            if _is_packed(text):
                text, self._unpacker = without_remarks(text), _Unpacker()
        if self._unpacker is not None:
            text = self._unpacker.feed(text)
        yield from self._lines.feed(text)

    def finish(self) -> Iterator[tuple[int, str]]:
        """The rest of the links; raises LinkError as ``feed`` does."""
        text, self._head = self._head, None
        if text is not None:
            _refuse_configuration(text)
            if (servers := _parse_json(text)) is not None:
                yield from enumerate(servers, start=1)
                return
            text = unpack(text)
        elif self._unpacker is not None:
            text = self._unpacker.finish()
        yield from self._lines.feed(text or "")
        yield from self._lines.feed("\n")


def number_links(text: str) -> Iterator[tuple[int, str]]:
    """The links of a list that is there as a whole; raises LinkError as ``ListReader`` does."""
    reader = ListReader()
    yield from reader.feed(text)
    yield from reader.finish()


class _Lines:
    """Cuts text into lines, and lines into links."""

    def __init__(self) -> None:
        self._number = 1
        self._rest = ""

    def feed(self, text: str) -> Iterator[tuple[int, str]]:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            yield from ((self._number, link) for link in links_of_line(line))
            self._number += 1
        if len(self._rest) > MAX_LINE:
            end = self._rest.rfind(" ") + 1 or len(self._rest)
            line, self._rest = self._rest[:end], self._rest[end:]
            yield from ((self._number, link) for link in links_of_line(line))


class _Unpacker:
    """Base64 in pieces; what does not belong to it is skipped (RFC 2045 §6.8).

    From the first link in plain text on, everything is.
    """

    def __init__(self) -> None:
        self._rest = ""
        self._is_plain = False
        self._is_first = True
        self._decoder = TextDecoder()

    def feed(self, text: str) -> str:
        if self._is_plain:
            return text
        if self._is_first:
            text, self._is_first = DATA_URL.sub("", text.lstrip()), False
        packed, plain = text, ""
        if (found := text.find("://")) >= 0:
            start = text.rfind("\n", 0, found) + 1
            packed, plain, self._is_plain = text[:start] + "=", "\n" + text[start:], True
        return self._decode(packed) + plain

    def finish(self) -> str:
        return self._decode("=") + self._decoder.decode(b"", is_last=True)

    def _decode(self, text: str) -> str:
        *padded, rest = re.split("=+", self._rest + _NO_BASE64.sub("", text.translate(_URL_SAFE)))
        whole = len(rest) - len(rest) % _QUANTUM
        self._rest = rest[whole:]
        pieces = [*(_decode_piece(piece) + b"\n" for piece in padded), _decode_piece(rest[:whole])]
        return self._decoder.decode(b"".join(pieces))


def _decode_piece(piece: str) -> bytes:
    if len(piece) % _QUANTUM == 1:  # a piece was lost: one character is no byte
        piece = piece[:-1]
    return base64.b64decode(piece + "=" * (-len(piece) % _QUANTUM))


def _is_packed(head: str) -> bool:
    """Whether a list that begins so is in base64 as a whole."""
    bare = without_remarks(head)
    if is_packed_by_line(bare.rpartition("\n")[0]):
        return False
    packed = "".join(bare.split())
    packed = packed[: len(packed) - len(packed) % _QUANTUM]
    return unpack(packed) != packed


def _may_be_json(text: str) -> bool:
    return text.lstrip()[:1] in {"{", "["}


def _parse_json(text: str) -> tuple[str, ...] | None:
    """The links of SIP008; None for what is none."""
    if not _may_be_json(text):
        return None
    from circumvent.links import sip008  # noqa: PLC0415 - its structs cost memory, and few need it

    return sip008.parse(text)


def _refuse_configuration(text: str) -> None:
    """Raise LinkError for the configuration of another program."""
    if _CLASH.search(text):
        raise LinkError("this is a Clash YAML, which is not read yet; ask for a list of links")
    if _may_be_json(text) and _CONFIGURATION.search(text):
        raise LinkError(
            "this is the JSON of sing-box or Xray, which is not read yet; ask for a list of links"
        )
