"""The REALITY parameters of share links: ``pbk``, ``sid``, ``pqv``, ``spx``, ``sni``, ``fp``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from circumvent.api import Layer, Privacy
from circumvent.errors import LinkError
from circumvent.layers.tls.reality import RealityLayer, RealityOptions
from circumvent.links.query import LinkQuery
from circumvent.links.tls_settings import take_fingerprint
from circumvent.wire.base64url import decode_base64, encode_base64url
from circumvent.wire.host_port import parse_host

_KEY, _PQ_KEY = 32, 1952  # bytes, of X25519 and ML-DSA-65
_WITHIN = re.compile(r"(?:[a-z]*://)?(?P<host>[^/:]+)(?::\d*)?(?:/.*)?", re.IGNORECASE)
_SHORT_ID = re.compile(r"(?:[0-9a-f]{2}){0,8}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RealityLink:
    """What a link says about REALITY. The server proves itself by its key."""

    options: RealityOptions
    privacy: Privacy = Privacy.ENCRYPTED
    warnings: Sequence[str] = ()

    @property
    def server_name(self) -> str:
        """The site that the server imitates."""
        return self.options.server_name

    def layers(self, alpn: tuple[str, ...]) -> tuple[Layer, ...]:  # noqa: ARG002 - never answered
        """REALITY with the browser's own ALPN, as its hello has it; servers choose none."""
        return (RealityLayer(self.options),)

    def query(self, host: str) -> Iterator[tuple[str, str]]:
        """The parameters from which ``take_reality`` makes the same value."""
        options = self.options
        yield "security", "reality"
        if options.server_name != host:
            yield "sni", options.server_name
        if options.fingerprint:
            yield "fp", options.fingerprint
        yield "pbk", encode_base64url(options.public_key)
        if options.short_id:
            yield "sid", options.short_id.hex()
        if options.pq_key:
            yield "pqv", encode_base64url(options.pq_key)


def take_reality(query: LinkQuery, host: str) -> RealityLink:
    """Take the REALITY parameters out of ``query``; raises LinkError.

    ``host`` is the server's, and the default of ``sni``.
    """
    query.take("spx", "spiderX")  # the page to visit if the server is the real site: none is asked
    query.take("alpn")  # the browser's is sent, and never answered
    public_key = _take_key(query, _KEY, "pbk", "publicKey", "public-key")
    if not public_key:
        raise LinkError("pbk: REALITY needs the server's public key; ask for a link with it")
    options = RealityOptions(
        server_name=_take_site(query) or host,
        public_key=public_key,
        short_id=_take_short_id(query),
        pq_key=_take_key(query, _PQ_KEY, "pqv", "mldsa65Verify"),
        fingerprint=take_fingerprint(query),
    )
    return RealityLink(options)


def _take_site(query: LinkQuery) -> str:
    """The name, also where a port or the site's URL is written; raises LinkError."""
    written = query.take("sni", "peer", "serverName", "servername").strip()
    try:
        return parse_host(written) if written else ""
    except LinkError:
        pass
    within = _WITHIN.fullmatch(written)
    try:
        site = parse_host(within["host"] if within else "")
    except LinkError:
        raise LinkError("sni: REALITY needs the name of the site that the server shows") from None
    query.notes.append("sni: is more than a host name; the name within it is sent")
    return site


def _take_key(query: LinkQuery, size: int, *names: str) -> bytes:
    """A key of ``size`` bytes, or nothing where there is none; raises LinkError."""
    written = query.take(*names).strip()
    try:
        key = decode_base64(names[0], written)
    except LinkError:
        key = b""
    if written and len(key) != size:
        raise LinkError(f"{names[0]}: must be a public key of {size} bytes in base64url")
    return key


def _take_short_id(query: LinkQuery) -> bytes:
    written = query.take("sid", "shortId", "short-id").strip()
    if not _SHORT_ID.fullmatch(written):
        raise LinkError("sid: a short id is up to 16 hexadecimal digits, in pairs; correct it")
    return bytes.fromhex(written)
