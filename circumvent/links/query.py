"""The query of a share link, taken parameter by parameter; what is left is refused."""

from __future__ import annotations

import re

from circumvent.errors import LinkError, UnsupportedError
from circumvent.links.uri import ShareLink

_WORD = re.compile(r"[A-Za-z0-9_-]{1,32}")  # safe to show: no key or password by its place
# What asks for nothing that a tunnel of TCP streams could lack; "-" and "_" and case do not count.
# Not here: whatever chooses security, a carriage, a flow, a plugin, encryption or obfuscation.
DECORATION = {
    # Names and notes for people.
    "name": "another name",
    "remark": "another name",
    "remarks": "another name",
    "description": "a note",
    "descriptions": "a note",
    "tag": "what lists sort by",
    "subtag": "what lists sort by",
    "group": "what lists sort by",
    "outline": "a mark of who made the link",
    # UDP, which nobody is offered: how packets would travel changes nothing for streams.
    "udp": "that packets are allowed",
    "udprelay": "that packets are allowed",
    "uot": "packets over a stream",
    "udpovertcp": "packets over a stream",
    "xudp": "how packets are framed",
    "packetencoding": "how packets are framed",
    # Ways to save time when connecting: the server answers without them.
    "tfo": "data in the first TCP packet",
    "fastopen": "data in the first TCP packet",
    "tcpfastopen": "data in the first TCP packet",
    "mptcp": "several TCP paths, if both sides have them",
}
# What asks for something unless it is switched off.
OFF = frozenset({"0", "false", "no", "none", "off"})
SWITCHES = frozenset({"mux", "multiplex", "smux", "obfs", "plugin"})
_FLAGS = {"": False, "0": False, "false": False, "1": True, "true": True}


class LinkQuery:
    """Takes the parameters of a link one by one; an empty value counts as not given.

    In keys, case, "-" and "_" do not count. A transport takes what it knows and calls ``finish``:
    what is left was asked for and is lacking, and an error names it.
    """

    def __init__(self, link: ShareLink) -> None:
        self._left: dict[str, tuple[str, str]] = {}  # what is left, by its plain key
        for key, value in link.query:
            plain = _plain(key)
            if not value or plain in DECORATION or (plain in SWITCHES and value.lower() in OFF):
                continue
            if self._left.setdefault(plain, (key, value))[1] != value:
                raise LinkError(
                    "query: a parameter is given twice, differently; keep only one of them"
                )

    def take(self, key: str) -> str:
        """The value of ``key``, or an empty string; it counts as understood."""
        return self._left.pop(_plain(key), ("", ""))[1]

    def take_list(self, key: str) -> tuple[str, ...]:
        """The comma-separated items of ``key``; raises LinkError when one is empty."""
        value = self.take(key)
        items = tuple(item.strip() for item in value.split(",")) if value else ()
        if not all(items):
            raise LinkError(f"{key}: an item is empty; write one comma between items")
        return items

    def take_flag(self, key: str) -> bool:
        """True for ``1`` and ``true``; raises LinkError for what is not a switch."""
        value = self.take(key).lower()
        if value not in _FLAGS:
            raise LinkError(f"{key}: is a switch; write 0 or 1")
        return _FLAGS[value]

    def take_word(self, key: str) -> str:
        """A value of letters, digits, ``-`` and ``_``, or nothing; raises LinkError."""
        value = self.take(key)
        if value and not _WORD.fullmatch(value):
            raise LinkError(f"{key}: is one word of letters and digits; correct it")
        return value

    def choose(self, key: str, default: str, *others: str) -> str:
        """The value of ``key``; raises UnsupportedError unless it is one of those given."""
        value = self.take(key) or default
        if value.lower() not in (default, *others):
            shown = f"{key}={value}" if _WORD.fullmatch(value) else key
            raise UnsupportedError(f"{shown} is not supported; ask for a link without it")
        return value.lower()

    def finish(self) -> None:
        """Raise UnsupportedError that names what was not taken."""
        if not self._left:
            return
        keys = (key for key, _ in self._left.values())
        known = ", ".join(sorted(filter(_WORD.fullmatch, keys))) or "a parameter"
        raise UnsupportedError(f"{known} in the query is not supported; ask for a link without it")


def _plain(key: str) -> str:
    return key.lower().replace("-", "").replace("_", "")
