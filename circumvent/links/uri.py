"""Share links: ``scheme://user@host:port/path?query#name`` (RFC 3986), as people write them.

Programs and pages spoil links on their way: an ``&`` becomes ``&amp;``, passwords hold an ``@``
that nobody encoded, an IPv6 address lost its brackets. All of that is read as it was meant, where
only one meaning is left. What one protocol makes of the parts is the business of its transport. No
error text repeats any of the link: a misplaced ``/`` or ``@`` can put half a password into the
place of the host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from circumvent.errors import LinkError
from circumvent.wire.host_port import parse_address
from circumvent.wire.link_text import MAX_LINK, UNSAFE, parse_name

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# The "@" before the server is the first that a host and a port follow: passwords hold others.
_SERVER = re.compile(r"@(\[[^\]@/?]*\]|[^@/?\[\]]+)\s*:\s*[0-9]+\s*(?=[/?]|$)")
_TARGET = re.compile(r"(?P<path>[^?]*)(?:\?(?P<query>.*))?", re.DOTALL)
# "&" as pages and JSON write it; twice where it was written down twice.
_AMPERSAND = re.compile(r"&(?:amp;)+|\\u0026", re.IGNORECASE)
_KEY_JUNK = re.compile(r"^(?:amp;|;)+", re.IGNORECASE)  # what is left of "&amp;" that was encoded
_LINE_ENDS = re.compile(r"^(%0[9AD])+|(%0[9AD])+$", re.IGNORECASE)
_BROKEN = re.compile("[\n\r\ud800-\udfff\ufffd]")  # two links, or what a decoder could not read


@dataclass(frozen=True, slots=True)
class ShareLink:
    """The decoded parts of a share link; what may hold a secret is not in ``repr``.

    ``host`` is in lower case, in ASCII and without brackets; ``path`` is empty or starts
    with a slash; ``query`` keeps its order and its repetitions.
    """

    scheme: str
    user: str = field(repr=False)
    host: str
    port: int
    path: str = field(default="", repr=False)
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    name: str = ""


def parse_link(text: str, default_port: int | None = None) -> ShareLink:
    """Split and decode a share link; raises LinkError naming the part that is wrong."""
    body, name = split_name(text)
    match = _SCHEME.fullmatch(body)
    if match is None:
        raise LinkError("scheme: a link starts with a scheme and '://'; copy the whole link")
    user, address, tail = _split_authority(match[2])
    target = _TARGET.fullmatch(tail)
    if target is None:  # it matches everything
        raise LinkError("link: cannot be read; copy the whole link")
    host, port = parse_address(address, default_port)
    return ShareLink(
        scheme=match[1].lower(),
        user=_decode_user(user),
        host=host,
        port=port,
        path=unquote(target["path"], errors="replace"),
        query=parse_query(target["query"] or ""),
        name=name,
    )


def format_link(link: ShareLink) -> str:
    """The link as text; ``parse_link`` gives the same value back.

    It does not end with a dot: that would be taken for the end of a sentence around it.
    """
    user = quote(link.user, safe="") + "@" if link.user else ""
    host = f"[{link.host}]" if ":" in link.host else link.host
    query = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in link.query)
    text = f"{link.scheme}://{user}{host}:{link.port}{quote(link.path)}"
    text += f"{'?' + query if query else ''}{'#' + quote(link.name, safe='') if link.name else ''}"
    bare = text.rstrip(".")
    return bare + "%2E" * (len(text) - len(bare))


def split_name(text: str) -> tuple[str, str]:
    """What is before the ``#``, repaired, and the name behind it; raises LinkError."""
    body, _, name = text.strip().partition("#")
    if len(body) > MAX_LINK:
        raise LinkError(f"link: longer than {MAX_LINK} characters; copy one link only")
    if _BROKEN.search(body):
        raise LinkError("link: holds a line break, or what is no text; copy it again")
    return UNSAFE.sub("", _AMPERSAND.sub("&", body)).strip(), parse_name(name)


def parse_query(text: str) -> tuple[tuple[str, str], ...]:
    """The parameters of a query, decoded, in their order; pieces without a value are left out.

    Keys lose what is left of a spoiled ``&``. A value may hold any character.
    """
    pieces = (_split_piece(piece) for piece in _AMPERSAND.sub("&", text).split("&"))
    decoded = ((_KEY_JUNK.sub("", key), value) for key, equals, value in pieces if equals)
    return tuple(dict.fromkeys(each for each in decoded if each[0]))


def _split_piece(piece: str) -> tuple[str, str, str]:
    """Key, ``=`` and value, decoded; somebody may have encoded the ``=`` as well."""
    key, equals, value = piece.partition("=")
    return (_decode(key), equals, _decode(value)) if equals else _decode(piece).partition("=")


def _split_authority(text: str) -> tuple[str, str, str]:
    """User, address, and what follows; raises LinkError."""
    authority = re.split("[/?]", text, maxsplit=1)[0]
    if "@" not in authority and _is_address(authority):  # no user; paths may hold an "@"
        return "", authority, text[len(authority) :]
    found = _SERVER.search(text)
    if found is None:
        user, at, address = authority.rpartition("@")
        if "@" in text and not at:
            raise LinkError("link: no host and port follow the '@'; copy the whole link")
        return user, address, text[len(authority) :]
    if not found.start():
        raise LinkError("user: nothing stands before the '@'; copy the whole link")
    user = text[: found.start()]
    if "://" in user:
        raise LinkError("link: two links in one; put each on a line of its own")
    return user, found[0][1:], text[found.end() :]


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except LinkError:
        return False
    return True


def _decode_user(text: str) -> str:
    try:
        decoded = unquote(_LINE_ENDS.sub("", text), errors="strict")  # of a password out of a file
    except UnicodeDecodeError:
        raise LinkError("user: its percent-encoding is not UTF-8; encode it again") from None
    if UNSAFE.search(decoded):
        raise LinkError("user: holds a control character; remove it")
    return decoded


def _decode(text: str) -> str:
    return unquote(text.strip(), errors="replace")
