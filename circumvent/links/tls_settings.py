"""The TLS parameters that share links of several protocols have in common."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from circumvent.api import Layer, Privacy, TlsOptions
from circumvent.errors import LinkError, UnsupportedError
from circumvent.layers.tls.layer import TlsLayer
from circumvent.links.query import LinkQuery
from circumvent.wire.base64url import decode_base64
from circumvent.wire.host_port import parse_host

if TYPE_CHECKING:
    from circumvent.layers.tls.ech_lookup import EchSource

NO_NAME = "-"  # written as ``sni`` when none is sent; what is no name is never sent
_ONLY_PINNED = "allowInsecure: the server's certificate is only held against the pins of the link"
_UNVERIFIED = (
    "allowInsecure: nobody vouches for the server's certificate; whoever is in between when it is"
    " first used can read everything, who comes later is refused"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BROWSER = re.compile(r"[A-Za-z0-9_-]{1,32}")
_HTTPS = 443
_DNS_PATH = "/dns-query"  # RFC 8484's example, and what all name servers have
_PROTOCOL = re.compile(r"[a-z][a-z0-9]*(?:[./-][a-z0-9]+)*", re.IGNORECASE)
MAX_ALPN = 255  # one length byte on the wire (RFC 7301 §3.1)


@dataclass(frozen=True, slots=True)
class TlsLink:
    """What a link says about TLS."""

    options: TlsOptions
    ech_source: EchSource | None = None

    @property
    def server_name(self) -> str:
        """The name that the certificate is for."""
        return self.options.server_name

    @property
    def privacy(self) -> Privacy:
        """What a watcher of the connection can see."""
        return Privacy.ENCRYPTED if self.options.authenticates else Privacy.UNVERIFIED

    def layers(self, alpn: tuple[str, ...]) -> tuple[Layer, ...]:
        """TLS that offers ``alpn`` where what goes over it leaves no choice."""
        options = replace(self.options, alpn=alpn) if alpn else self.options
        if self.ech_source is None:
            return (TlsLayer(options),)
        from circumvent.layers.tls.ech_lookup import EchLookupLayer  # noqa: PLC0415 - rare

        return (EchLookupLayer(options, self.ech_source),)

    def query(self, host: str) -> Iterator[tuple[str, str]]:
        """The parameters from which ``take_tls`` makes the same value."""
        options = self.options
        yield "security", "tls"
        if options.server_name != host or not options.send_name:
            yield "sni", options.server_name if options.send_name else NO_NAME
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
        if options.certificate_names:
            yield "vcn", ",".join(options.certificate_names)
        if options.ech:
            yield "ech", base64.b64encode(options.ech).decode()
        if self.ech_source is not None:
            yield "ech", self.ech_source.text

    @property
    def warnings(self) -> Sequence[str]:
        """What the user gave up by these parameters."""
        if self.options.verify:
            return ()
        return (_ONLY_PINNED if self.options.authenticates else _UNVERIFIED,)


def take_tls(query: LinkQuery, host: str) -> TlsLink:
    """Take the TLS parameters out of ``query``; raises LinkError, UnsupportedError.

    ``host`` is the server's, and the default of ``sni``.
    """
    name, send_name = _take_server_name(query, host)
    names = _take_names(query)
    is_insecure = query.take_flag("allowInsecure", "insecure", "skip-cert-verify")
    key, source = _take_ech(query, name if send_name else "")
    options = TlsOptions(
        server_name=name,
        send_name=send_name,
        alpn=_take_alpn(query) or None,
        verify=bool(names) or not is_insecure,  # who names whom to expect wants that checked
        certificate_sha256=_take_digests(query, "pinSHA256") + _take_digests(query, "pcs"),
        spki_sha256=_take_digests(query, "pinSPKI"),
        fingerprint=take_fingerprint(query),
        certificate_names=names,
        ech=key,
    )
    return TlsLink(options, source)


def _take_server_name(query: LinkQuery, host: str) -> tuple[str, bool]:
    """The name to verify, and whether it is sent; ``peer`` is the older word for ``sni``."""
    written = query.take("sni", "peer", "serverName", "servername").strip()
    if not written:
        return host, True
    try:
        return parse_host(written), True
    except LinkError:
        query.notes.append("sni: is neither a host name nor an IP address; none is sent")
        return host, False


def _take_names(query: LinkQuery) -> tuple[str, ...]:
    """``vcn`` lists the names of which the certificate must have one, instead of ``sni``."""
    try:
        return tuple(map(parse_host, query.take_list("vcn")))
    except LinkError:
        raise LinkError("vcn: lists host names, with a comma between them; correct it") from None


def _take_ech(query: LinkQuery, sent_name: str) -> tuple[bytes, EchSource | None]:
    """The ECHConfigList, or whom to ask for it: ``[name+]https://name.server/path``."""
    written = query.take("ech", "echConfigList")
    if not written:
        return b"", None
    if not sent_name or ":" in sent_name or sent_name[-1].isdigit():  # an address is no name
        raise LinkError("ech: encrypts the server's name, and the link has none; add sni")
    if "://" in written:
        return b"", _parse_source(written, sent_name)
    config_list = decode_base64("ech", written)
    # Not at import: few links have it, and it takes a library.
    from circumvent.wire.tls13.ech_config import find_config  # noqa: PLC0415

    find_config(config_list)
    return config_list, None


def _parse_source(written: str, sent_name: str) -> EchSource:
    from circumvent.layers.tls.ech_lookup import EchSource  # noqa: PLC0415 - rare

    name, plus, url = written.rpartition("+")
    if not url.startswith("https://"):
        raise UnsupportedError(
            "ech: names a name server that is asked in clear, where everybody can read the question"
            " and answer it; ask for a link with the key in it"
        )
    try:
        parts = urlsplit(url)
        host, port = parse_host(parts.hostname or ""), parts.port or _HTTPS
        name = parse_host(name) if plus else sent_name
    except (LinkError, ValueError):
        raise LinkError("ech: the name server is no URL; copy the whole link again") from None
    path = quote(parts.path or _DNS_PATH, safe="/%")
    return EchSource(name, host, port, path)


def _take_alpn(query: LinkQuery) -> tuple[str, ...]:
    items = tuple(item.strip() for item in query.take("alpn").split(","))
    protocols = tuple(item for item in items if _PROTOCOL.fullmatch(item) and len(item) <= MAX_ALPN)
    if items not in (protocols, ("",)):
        query.notes.append("alpn: what names no protocol is left out")
    return protocols


def take_fingerprint(query: LinkQuery) -> str:
    """The browser whose ClientHello is sent."""
    written = query.take("fp", "fingerprint")
    if not written or _BROWSER.fullmatch(written):
        return written.lower()
    query.notes.append("fp: names no browser; it is left out")
    return ""


def _take_digests(query: LinkQuery, key: str) -> tuple[bytes, ...]:
    digests = [item.replace(":", "").lower() for item in query.take_list(key)]
    if not all(map(_DIGEST.fullmatch, digests)):
        raise LinkError(f"{key}: a pin is a SHA-256 digest of 64 hexadecimal digits; correct it")
    return tuple(map(bytes.fromhex, digests))
