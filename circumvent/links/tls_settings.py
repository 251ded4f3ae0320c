"""The TLS parameters that share links of several protocols have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from circumvent.api import TlsOptions
from circumvent.errors import LinkError
from circumvent.links.query import LinkQuery
from circumvent.wire.host_port import parse_host

TLS_KEYS = ("sni", "peer", "alpn", "fp", "allowInsecure", "insecure", "pinSHA256", "pinSPKI")
MAX_ALPN = 255  # one length byte on the wire (RFC 7301 §3.1)
_ONLY_PINNED = "allowInsecure: the server's certificate is only held against the pins of the link"
_UNVERIFIED = (
    "allowInsecure: the server's certificate is not verified; anybody in between"
    " can pretend to be the server"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TlsLink:
    """What a link says about TLS."""

    options: TlsOptions

    @property
    def authenticated(self) -> bool:
        """Whether the server proves who it is: by a known authority or by a pin."""
        options = self.options
        return options.verify or bool(options.certificate_sha256 or options.spki_sha256)


def take_tls(query: LinkQuery, host: str) -> TlsLink:
    """Take the TLS parameters out of ``query``; raises LinkError.

    ``host`` is the server's, and the default of ``sni``.
    """
    switches = [query.take_flag(key) for key in ("allowInsecure", "insecure")]
    options = TlsOptions(
        server_name=_take_server_name(query) or host,
        alpn=_take_alpn(query) or None,
        verify=not any(switches),
        certificate_sha256=_take_digests(query, "pinSHA256"),
        spki_sha256=_take_digests(query, "pinSPKI"),
        fingerprint=query.take_word("fp").lower(),
    )
    return TlsLink(options)


def refuse_tls(query: LinkQuery) -> None:
    """Raise LinkError when a link without TLS has parameters of TLS."""
    for key in TLS_KEYS:
        if query.take(key):
            raise LinkError(f"{key}: means nothing without TLS; remove it or set security=tls")


def tls_query(tls: TlsLink, host: str) -> Iterator[tuple[str, str]]:
    """The parameters from which ``take_tls`` makes the same value."""
    options = tls.options
    if options.server_name != host:
        yield "sni", options.server_name
    if options.alpn:
        yield "alpn", ",".join(options.alpn)
    if options.fingerprint:
        yield "fp", options.fingerprint
    if not options.verify:
        yield "allowInsecure", "1"
    if options.certificate_sha256:
        yield "pinSHA256", ",".join(pin.hex() for pin in options.certificate_sha256)
    if options.spki_sha256:
        yield "pinSPKI", ",".join(pin.hex() for pin in options.spki_sha256)


def tls_warnings(tls: TlsLink) -> Sequence[str]:
    """What the user gave up by these parameters."""
    if tls.options.verify:
        return ()
    if tls.authenticated:
        return (_ONLY_PINNED,)
    return (_UNVERIFIED,)


def _take_server_name(query: LinkQuery) -> str:
    """``peer`` is the older name of ``sni``."""
    peer = query.take("peer").strip()
    name = query.take("sni").strip() or peer
    try:
        return parse_host(name) if name else ""
    except LinkError:
        raise LinkError("sni: is neither a host name nor an IP address; correct it") from None


def _take_alpn(query: LinkQuery) -> tuple[str, ...]:
    protocols = query.take_list("alpn")
    if not all(item.isascii() and len(item) <= MAX_ALPN for item in protocols):
        raise LinkError("alpn: names protocols in ASCII, such as h2,http/1.1; correct it")
    return protocols


def _take_digests(query: LinkQuery, key: str) -> tuple[bytes, ...]:
    digests = [item.replace(":", "").lower() for item in query.take_list(key)]
    if not all(map(_DIGEST.fullmatch, digests)):
        raise LinkError(f"{key}: a pin is a SHA-256 digest of 64 hexadecimal digits; correct it")
    return tuple(map(bytes.fromhex, digests))
