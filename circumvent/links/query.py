"""The query of a share link, taken parameter by parameter.

Links of our own are read strictly: what is left is refused. Links of other programs are read as
those programs do: what is left is ignored, unless it chooses how a connection is secured, carried
or hidden.
"""

from __future__ import annotations

import re
from collections.abc import Collection

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
SWITCHES = frozenset({"mux", "multiplex", "smux", "obfs", "plugin", "ws", "tls", "xtls"})
# What no connection may be made without when a link asks for it, as plain keys.
DEMANDS = frozenset({
    *("security", "tls", "xtls", "shadowtls", "restls", "ech", "echconfig", "echconfiglist"),
    *("type", "network", "net", "transport", "ws", "headertype", "flow", "encryption"),
    *("plugin", "pluginopts", "obfs", "obfsparam", "obfspassword", "obfshost", "obfsuri"),
    *("fm", "finalmask", "fragment", "prefix", *SWITCHES),
})  # fmt: skip
_ON = frozenset({"1", "true", "yes", "on"})


class LinkQuery:
    """Takes the parameters of a link one by one; an empty value counts as not given.

    In keys, case, "-" and "_" do not count. A transport takes what it knows, and then calls
    ``finish`` or ``finish_leniently``. ``notes`` tell the user what was not read as it is written.
    """

    def __init__(self, link: ShareLink) -> None:
        self.notes: list[str] = []
        self._link = link
        self._is_ambiguous = False
        self._left: dict[str, list[tuple[str, str]]] = {}  # what is left, by its plain key
        for key, value in link.query:
            plain = _plain(key)
            if not value or plain in DECORATION or (plain in SWITCHES and value.lower() in OFF):
                continue
            self._left.setdefault(plain, []).append((key, value))

    def take(self, *keys: str) -> str:
        """The first value of ``keys``, which mean the same, or an empty string."""
        values = self.take_all(*keys)
        if len(set(values)) > 1:
            self._is_ambiguous = True
            self.notes.append(f"{keys[0]}: is given twice, differently; the first one counts")
        return values[0] if values else ""

    def take_all(self, *keys: str) -> list[str]:
        """All values of ``keys``; they count as understood."""
        return [value for key in keys for _, value in self._left.pop(_plain(key), ())]

    def take_list(self, key: str) -> tuple[str, ...]:
        """The comma-separated items of ``key``; raises LinkError when one is empty."""
        value = self.take(key)
        items = tuple(item.strip() for item in value.split(",")) if value else ()
        if not all(items):
            raise LinkError(f"{key}: an item is empty; write one comma between items")
        return items

    def take_flag(self, *keys: str) -> bool:
        """Whether one of ``keys`` is switched on; what is no switch is off, and noted."""
        values = [value.lower() for value in self.take_all(*keys)]
        if any(value not in _ON | OFF for value in values):
            self.notes.append(f"{keys[0]}: is a switch and neither 0 nor 1; taken as 0")
        return any(value in _ON for value in values)

    def take_word(self, key: str) -> str:
        """A value of letters, digits, ``-`` and ``_``, or nothing; raises LinkError."""
        value = self.take(key)
        if value and not _WORD.fullmatch(value):
            raise LinkError(f"{key}: is one word of letters and digits; correct it")
        return value

    def is_hidden(self, pattern: re.Pattern[str]) -> bool:
        """Whether ``pattern`` stands within the path, the name or a parameter of the link."""
        link = self._link
        texts = (link.path, link.name, *map("=".join, link.query))
        return any(map(pattern.search, texts))

    def finish(self) -> None:
        """Raise UnsupportedError that names what was not taken; LinkError for an ambiguity."""
        if self._is_ambiguous:
            raise LinkError("query: a parameter is given twice, differently; keep only one of them")
        self._refuse(self._left)

    def finish_leniently(self) -> None:
        """Raise UnsupportedError that names what was not taken and changes the connection."""
        self._refuse(DEMANDS & self._left.keys())

    def _refuse(self, lacking: Collection[str]) -> None:
        if not lacking:
            return
        keys = (self._left[plain][0][0] for plain in lacking)
        known = ", ".join(sorted(filter(_WORD.fullmatch, keys))) or "a parameter"
        raise UnsupportedError(f"{known} in the query is not supported; ask for a link without it")


def find_word(value: str, words: Collection[str]) -> str:
    """The longest of ``words`` that ``value`` begins with, in any case; else an empty string.

    Advertisements stand behind words, without anything between.
    """
    value = value.strip().lower()
    return max(filter(value.startswith, words), key=len, default="")


def lacking(key: str, value: str) -> UnsupportedError:
    """The error for a choice that this program lacks; a value that may be secret is not told."""
    shown = f"{key}={value}" if _WORD.fullmatch(value) else key
    return UnsupportedError(f"{shown} is not supported; ask for a link without it")


def _plain(key: str) -> str:
    return key.lower().replace("-", "").replace("_", "")
