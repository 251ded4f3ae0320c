"""Share links: ``scheme://user@host:port/path?query#name`` (RFC 3986).

What is before the ``#`` is read strictly, the name behind it never makes a link unusable. What one
protocol makes of the parts is the business of its transport. No error text repeats any of the
link: a misplaced ``/`` or ``@`` can put half a password into the place of the host.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from circumvent.errors import LinkError
from circumvent.wire.address import MAX_PORT, encode_name

MAX_LINK = 4096  # characters; the largest QR code holds 2953 bytes
MAX_NAME = 100  # characters that are shown; advertisements are longer

_SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<authority>[^/?]*)(?P<path>[^?]*)(?:\?(?P<query>.*))?"
)
# Control characters, what reverses text on a terminal, and halves of surrogate pairs.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# What is hidden in text, what reorders it, and what ends a line or commands a terminal.
UNSEEN = "\u00ad\u061c\u200b\u200e\u200f\u2060\ufeff"  # marks and places to break a line
HIDDEN = UNSEEN + "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_NOT_SHOWN = re.compile(f"[{HIDDEN}\ud800-\udfff]")
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LINE_ENDS = re.compile(r"^(%0[9AD])+|(%0[9AD])+$", re.IGNORECASE)
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"0*[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Link:
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


def parse_link(text: str) -> Link:
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
    return Link(
        scheme=match["scheme"].lower(),
        user=_decode("user", _LINE_ENDS.sub("", user)),  # of a password out of a file
        host=host,
        port=port,
        path=_decode("path", match["path"]),
        query=parse_query(match["query"] or ""),
        name=name,
    )


def format_link(link: Link) -> str:
    """The link as text; ``parse_link`` gives the same value back."""
    user = quote(link.user, safe="") + "@" if link.user else ""
    host = f"[{link.host}]" if ":" in link.host else link.host
    query = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in link.query)
    return (
        f"{link.scheme}://{user}{host}:{link.port}{quote(link.path)}"
        f"{'?' + query if query else ''}{'#' + quote(link.name, safe='') if link.name else ''}"
    )


def split_name(text: str) -> tuple[str, str]:
    """What is before the ``#``, checked, and the name behind it; raises LinkError."""
    body, _, name = text.partition("#")
    return check_text(body), parse_name(name)


def check_text(text: str) -> str:
    """Trim a link's text; raises LinkError when it is too long or holds what no link holds."""
    text = text.strip()
    if len(text) > MAX_LINK:
        raise LinkError(f"link: longer than {MAX_LINK} characters; copy one link only")
    if not is_clean(text):
        raise LinkError("link: holds a space, a line break or a control character; copy it again")
    if "\ufffd" in text:  # what decoders leave in the place of what they cannot read
        raise LinkError("link: holds what is no text; copy it again")
    return text


def is_clean(text: str) -> bool:
    """Whether ``text`` holds only what a link may hold: a space at most in its name."""
    return not _UNSAFE.search(text) and " " not in text.partition("#")[0]


def parse_name(text: str) -> str:
    """What to show of the name behind a ``#``: one short line, whatever was written there.

    It is only for people, so nothing in it is an error. Where lists lost a line end, another link
    follows the name: that is not shown.
    """
    decoded = unquote(text[:MAX_LINK], errors="replace")
    shown, another_link, _ = _NOT_SHOWN.sub("", _BREAKS.sub(" ", decoded)).partition("://")
    if another_link:
        shown = shown.rpartition(" ")[0]
    return shown.strip()[:MAX_NAME].rstrip()


def parse_address(text: str) -> tuple[str, int]:
    """Split ``host:port`` or ``[IPv6]:port``; raises LinkError."""
    host, colon, port = text.rpartition(":")
    if not colon or host.startswith("[") != host.endswith("]"):
        raise LinkError("port: missing after the host; copy the whole link")
    if host.startswith("["):
        return _parse_ipv6(host[1:-1]), _parse_port(port)
    if ":" in host:
        raise LinkError("host: an IPv6 address needs brackets; write '[address]:port'")
    return parse_host(host), _parse_port(port)


def parse_host(text: str) -> str:
    """A host name in lower case and ASCII, or an IP address, from a link; raises LinkError."""
    if ":" in text:
        return _parse_ipv6(text)
    if "%" in text:
        raise LinkError("host: must not be percent-encoded; write the name as it is")
    try:
        host = encode_name(text).decode().lower().removesuffix(".")  # a dot for the root
    except ValueError:
        raise _bad_host() from None
    if not all(map(_LABEL.fullmatch, host.split("."))):
        raise _bad_host()
    return _parse_ipv4(host) if host.rpartition(".")[2].isdigit() else host


def decode_base64(part: str, text: str) -> bytes:
    """Decode either alphabet of RFC 4648 §4-5, with or without padding; raises LinkError."""
    try:
        raw = text.rstrip("=").translate(str.maketrans("-_", "+/")).encode("ascii")
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except ValueError:
        raise LinkError(f"{part}: is not valid base64; copy the whole link again") from None


def encode_base64url(raw: bytes) -> str:
    """Encode with the alphabet of RFC 4648 §5, without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


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
    if _UNSAFE.search(decoded):
        raise LinkError(f"{part}: holds a control character; remove it")
    return decoded


def _parse_parameter(item: str) -> tuple[str, str]:
    key, equals, value = item.partition("=")
    if not key or not equals:
        raise LinkError("query: every parameter is 'key=value', with '&' between; correct it")
    return _decode("query", key), _decode("query", value)


def _parse_port(text: str) -> int:
    if not _PORT.fullmatch(text) or not 0 < int(text) <= MAX_PORT:
        raise LinkError(
            f"port: is not a number from 1 to {MAX_PORT}; correct what follows the host"
        )
    return int(text)


def _parse_ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise LinkError("host: is not an IPv6 address; correct what is in brackets") from None
    if address.scope_id:
        raise LinkError("host: an IPv6 zone has no meaning elsewhere; leave it out")
    return str(address)


def _parse_ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise LinkError("host: is not an IPv4 address; write four numbers up to 255") from None


def _bad_host() -> LinkError:
    return LinkError("host: is neither a host name nor an IP address; correct it")
