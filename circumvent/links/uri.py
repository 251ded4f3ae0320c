"""Share links: ``scheme://user@host:port/path?query#name`` (RFC 3986).

What is before the ``#`` is read strictly, the name behind it never makes a link unusable. What one
protocol makes of the parts is the business of its transport. No error text repeats any of the
link: a misplaced ``/`` or ``@`` can put half a password into the place of the host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from circumvent.errors import LinkError
from circumvent.wire.host_port import parse_address
from circumvent.wire.link_text import UNSAFE, split_name

_SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<authority>[^/?]*)(?P<path>[^?]*)(?:\?(?P<query>.*))?"
)
_LINE_ENDS = re.compile(r"^(%0[9AD])+|(%0[9AD])+$", re.IGNORECASE)
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class ShareLink:
    """The decoded parts of a share link; what may hold a secret is not in ``repr``.

    ``host`` is in lower case, in ASCII and without brackets; ``path`` is empty or starts
    with a slash; ``query`` keeps its order.
    """

    scheme: str
    user: str = field(repr=False)
    host: str
    port: int
    path: str = field(default="", repr=False)
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    name: str = ""


def parse_link(text: str) -> ShareLink:
    """Split and decode a share link; raises LinkError naming the part that is wrong."""
    body, name = split_name(text)
    match = _SHAPE.fullmatch(body)
    if match is None:
        raise LinkError("scheme: a link starts with a scheme and '://'; copy the whole link")
    user, at, address = match["authority"].rpartition("@")
    _check_at_signs(user, match["path"] + (match["query"] or ""))
    if at and not user:
        raise LinkError("user: nothing stands before the '@'; copy the whole link")
    host, port = parse_address(address)
    return ShareLink(
        scheme=match["scheme"].lower(),
        user=_decode("user", _LINE_ENDS.sub("", user)),  # of a password out of a file
        host=host,
        port=port,
        path=_decode("path", match["path"]),
        query=parse_query(match["query"] or ""),
        name=name,
    )


def format_link(link: ShareLink) -> str:
    """The link as text; ``parse_link`` gives the same value back."""
    user = quote(link.user, safe="") + "@" if link.user else ""
    host = f"[{link.host}]" if ":" in link.host else link.host
    query = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in link.query)
    return (
        f"{link.scheme}://{user}{host}:{link.port}{quote(link.path)}"
        f"{'?' + query if query else ''}{'#' + quote(link.name, safe='') if link.name else ''}"
    )


def _check_at_signs(user: str, tail: str) -> None:
    if "@" in user:
        raise LinkError("user: holds an '@'; write it as %40")
    if "@" in tail:
        raise LinkError(
            "link: an '@' stands behind the host; write it as %40, or, when the password is cut"
            " by one of '/', '?', '#', write that as %2F, %3F, %23"
        )


def parse_query(text: str) -> tuple[tuple[str, str], ...]:
    """The parameters of a query, decoded, in their order; raises LinkError.

    Empty pieces and repetitions say nothing; one key with two values is a contradiction.
    """
    pairs = tuple(dict.fromkeys(_parse_parameter(item) for item in text.split("&") if item))
    given = [key for key, value in pairs if value]
    if len(set(given)) != len(given):
        raise LinkError("query: a parameter is given twice, differently; keep only one of them")
    return pairs


def _decode(part: str, text: str) -> str:
    if _LONE_PERCENT.search(text):
        raise LinkError(f"{part}: holds a '%' without two hexadecimal digits; write it as %25")
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise LinkError(f"{part}: its percent-encoding is not UTF-8; encode it again") from None
    if UNSAFE.search(decoded):
        raise LinkError(f"{part}: holds a control character; remove it")
    return decoded


def _parse_parameter(item: str) -> tuple[str, str]:
    key, equals, value = item.partition("=")
    if not key or not equals:
        raise LinkError("query: every parameter is 'key=value', with '&' between; correct it")
    return _decode("query", key), _decode("query", value)
