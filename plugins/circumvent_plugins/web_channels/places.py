"""URLs of the web channels, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from circumvent.api import LinkError
from circumvent.wire.address import Destination
from circumvent.wire.links import check_text, parse_host

HTTPS_PORT = 443
MAX_FRONTS = 3  # all of them have a turn before the caller's patience ends
_FRONT_KEYS = ("host", "fronts", "sni")


@dataclass(frozen=True, slots=True)
class Fronted:
    """Where to ask for ``hidden``: URLs of fronts, and whether their names are sent in TLS."""

    urls: tuple[str, ...]
    hidden: str
    send_name: bool


def parse_place(text: str, scheme: str) -> str:
    """The ``https://`` URL in a source of ``scheme``; raises LinkError."""
    parts = _split(text, scheme)
    return _url(parts, parts.hostname or "", parts.query)


def parse_fronted(text: str) -> Fronted:
    """Read ``fronted+https://FRONT/path?host=HIDDEN&fronts=OTHER,OTHER&sni=none``.

    ``fronts`` and ``sni`` may be missing; other parameters are those of the hidden host's page.
    Raises LinkError.
    """
    parts = _split(text, "fronted+https")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    ours = {key: value for key, value in pairs if key in _FRONT_KEYS}
    theirs = urlencode([pair for pair in pairs if pair[0] not in _FRONT_KEYS])
    if not ours.get("host"):
        raise LinkError("host: the hidden host is missing; write ?host=NAME behind the path")
    if ours.get("sni", "none") != "none":
        raise LinkError("sni: is only ever 'none'; leave it out to send the front's name")
    fronts = dict.fromkeys([parts.hostname or "", *_others(ours)])
    if len(fronts) > MAX_FRONTS:
        raise LinkError(f"fronts: more than {MAX_FRONTS}; write another source for the others")
    return Fronted(
        urls=tuple(_url(parts, front, theirs) for front in fronts),
        hidden=parse_host(ours["host"]),
        send_name="sni" not in ours,
    )


def _others(ours: Mapping[str, str]) -> list[str]:
    return ours["fronts"].split(",") if "fronts" in ours else []


def _split(text: str, scheme: str) -> SplitResult:
    parts = urlsplit(check_text(text))
    if parts.scheme != scheme or not parts.netloc:
        raise LinkError(f"{scheme}: is no URL; it starts with {scheme}://")
    if "@" in parts.netloc:
        raise LinkError(f"{scheme}: a user name is not sent anywhere; remove it")
    return parts


def _url(parts: SplitResult, host: str, query: str) -> str:
    try:
        port = HTTPS_PORT if parts.port is None else parts.port
    except ValueError:
        raise LinkError("port: is not a number from 1 to 65535; correct it") from None
    address = Destination(parse_host(host), port)
    return f"https://{address}{parts.path or '/'}{'?' + query if query else ''}"
