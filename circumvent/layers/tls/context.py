"""What both TLS engines share: whom a client trusts, what it remembers, and its error texts."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import ssl
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from circumvent.api import TlsOptions
from circumvent.errors import HandshakeError, PinError, ProtocolError, StreamResetError
from circumvent.layers.tls.tickets import Tickets, TicketScope
from circumvent.memory import Account

RECORD = 16 * 1024  # RFC 8446 §5.1: the largest plaintext of one record

# Links choose what is offered, so the number of different terms has no bound of its own. Bytes of
# a context, measured; the larger where the system keeps its authorities in one file only.
MAX_CONTEXTS = 4
CONTEXT, CONTEXT_WITH_FILE = 40 * 1024, 900 * 1024
_BROWSER_ALPN = ("h2", "http/1.1")
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]")  # an authority's file, as OpenSSL finds it by its name

Tls = ssl.SSLSocket | ssl.SSLObject


def _nothing(_: Tls) -> None:
    """Servers check no peer and keep no session themselves."""


@dataclass(frozen=True, slots=True)
class TlsRole:
    """How one end of a connection takes part in TLS; ``leave`` is called when it closes.

    A server accepts an end without close_notify, as web servers do: clients often close without
    it, and their requests have a length of their own.
    """

    context: ssl.SSLContext
    server_side: bool = False
    server_name: str | None = None
    session: ssl.SSLSession | None = None
    check: Callable[[Tls], None] = _nothing
    leave: Callable[[Tls], None] = _nothing

    @property
    def needs_close_notify(self) -> bool:
        """Whether an end without close_notify is a cut (docs/decisions/0012)."""
        return not self.server_side


@dataclass(slots=True)
class _Terms:
    """What is offered, and the tickets that can only be offered with it."""

    context: ssl.SSLContext
    tickets: Tickets = field(default_factory=Tickets)


class ClientRoles:
    """Makes the client's role in each connection; keeps the terms that were used last.

    ``account`` pays for contexts, except for one, whose memory is counted with the code.
    """

    def __init__(self, ca_file: str | None = None, account: Account | None = None) -> None:
        self._ca_file = ca_file
        self._account = account
        self._free: weakref.ref[ssl.SSLContext] | None = None
        self._terms: dict[tuple[object, ...], _Terms] = {}  # the latest last

    def role(self, options: TlsOptions, place: str) -> TlsRole:
        """What to offer at ``place``, and what to check after the handshake.

        Raises BudgetError.
        """
        origin = TicketScope(place, options)
        terms = self._find(options)
        ticket = terms.tickets.take(origin)
        return TlsRole(
            context=terms.context,
            server_name=options.server_name if options.send_name else None,
            session=ticket,
            check=partial(_check_server, options),
            leave=partial(terms.tickets.keep, origin, offered=ticket),
        )

    def forget(self) -> None:
        """Drop all tickets, and those that older connections bring later."""
        for terms in self._terms.values():
            terms.tickets = Tickets()

    def _find(self, options: TlsOptions) -> _Terms:
        verify = options.verify and not _pins(options)
        key = (verify, options.alpn, _is_name_left_to_library(options))
        terms = self._terms.pop(key, None)
        if terms is None:
            terms = _Terms(self._make(options, verify=verify))
        self._terms[key] = terms
        if len(self._terms) > MAX_CONTEXTS:
            del self._terms[next(iter(self._terms))]
        return terms

    def _make(self, options: TlsOptions, *, verify: bool) -> ssl.SSLContext:
        """A context that is paid for; older ones are dropped when there is no room for it."""
        cost = CONTEXT_WITH_FILE if verify and not _has_directory() else CONTEXT
        while self._account is not None and self._is_free_taken():
            if self._account.try_charge(cost):
                context = _make_context(options, verify=verify, ca_file=self._ca_file)
                weakref.finalize(context, self._account.discharge, cost)
                return context
            if not self._terms:
                self._account.charge(cost)  # raises
            del self._terms[next(iter(self._terms))]
        context = _make_context(options, verify=verify, ca_file=self._ca_file)
        self._free = weakref.ref(context)
        return context

    def _is_free_taken(self) -> bool:
        return self._free is not None and self._free() is not None


def _make_context(options: TlsOptions, *, verify: bool, ca_file: str | None) -> ssl.SSLContext:
    """Offers TLS 1.2 as well, whatever the options say: no other program offers 1.3 alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    alpn = _BROWSER_ALPN if options.alpn is None else options.alpn
    if alpn:
        context.set_alpn_protocols(list(alpn))
    context.check_hostname = verify and _is_name_left_to_library(options)
    if verify:
        _trust_system(context)
        if ca_file is not None:
            context.load_verify_locations(ca_file)
    else:
        context.verify_mode = ssl.CERT_NONE
    return context


def _trust_system(context: ssl.SSLContext) -> None:
    """From a directory, OpenSSL reads only the authorities that it needs."""
    if _has_directory():
        context.load_verify_locations(capath=ssl.get_default_verify_paths().capath)
    else:
        context.load_default_certs()


def _has_directory() -> bool:
    """Whether OpenSSL finds authorities one by one, and the environment names no file instead."""
    paths = ssl.get_default_verify_paths()
    return paths.openssl_cafile_env not in os.environ and _is_hashed(paths.capath)


@cache
def _is_hashed(directory: str | None) -> bool:
    try:
        return any(_HASHED.fullmatch(file.name) for file in Path(directory or "").iterdir())
    except OSError:
        return False


def _pins(options: TlsOptions) -> bool:
    return bool(options.certificate_sha256 or options.spki_sha256)


def _check_server(options: TlsOptions, tls: Tls) -> None:
    if options.only_tls13 and tls.version() != "TLSv1.3":
        raise HandshakeError("the server speaks no TLS 1.3", stage="tls")
    if _pins(options):
        _check_pins(options, tls.getpeercert(binary_form=True) or b"")
    elif options.verify and not _is_name_left_to_library(options):
        _check_names(options.verified_names, tls.getpeercert() or {})


def _check_pins(options: TlsOptions, certificate: bytes) -> None:
    if hashlib.sha256(certificate).digest() in options.certificate_sha256:
        return
    if options.spki_sha256 and _spki_sha256(certificate) in options.spki_sha256:
        return
    raise PinError("the server's certificate is not the pinned one", stage="tls")


def _spki_sha256(certificate: bytes) -> bytes:
    """The digest of the public key of a certificate in DER."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - only for pins
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415 - only for pins

    key = load_der_x509_certificate(certificate).public_key()
    encoded = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).digest()


def _is_name_left_to_library(options: TlsOptions) -> bool:
    """The library compares the certificate with the name that is sent, and with no other."""
    return options.send_name and not options.certificate_names


def _check_names(names: tuple[str, ...], certificate: dict[str, Any]) -> None:
    if not any(_is_for(name.lower(), certificate) for name in names):
        raise HandshakeError(
            "the server's certificate is not valid: it is for another name", stage="tls"
        )


def _is_for(name: str, certificate: dict[str, Any]) -> bool:
    """RFC 9525 §6.3: the whole name, or all behind a wildcard that is the first label."""
    accepted = {name, "*." + name.partition(".")[2]}
    return any(
        (kind == "DNS" and value.lower() in accepted)
        or (kind == "IP Address" and _is_same_address(value, name))
        for kind, value in certificate.get("subjectAltName", ())
    )


def handshake_error(error: Exception) -> HandshakeError:
    """What ``error``, raised by an engine in its handshake, means to a user."""
    code = None  # the errno of an SSLError is not the system's
    if isinstance(error, ssl.SSLCertVerificationError):
        message = f"the server's certificate is not valid: {error.verify_message}"
    elif isinstance(error, ssl.SSLError):
        message = f"TLS handshake failed: {error.reason or 'the connection was cut'}"
    else:
        message = f"TLS handshake failed: {error}"
        code = error.errno if isinstance(error, (OSError, StreamResetError)) else None
    return HandshakeError(message, stage="tls", errno=code)


def record_error(error: ssl.SSLError) -> ProtocolError:
    """The error for a record that the protocol forbids."""
    message = f"TLS: {error.reason or 'the peer sent what is not allowed'}"
    return ProtocolError(message, stage="read")


def cut_error() -> StreamResetError:
    """The error for a connection that ended, perhaps inside a record, without close_notify."""
    message = "connection lost: it was cut, for TLS ended without close_notify"
    return StreamResetError(message, stage="read")


def channel_binding(tls: Tls) -> bytes:
    """The Finished message that both ends call "tls-unique" (RFC 5929 §3).

    Under TLS 1.3 it is keyed by the fresh key exchange, so no two handshakes share one.
    Raises HandshakeError before the handshake is done.
    """
    finished = tls.get_channel_binding("tls-unique")
    if not finished:
        raise HandshakeError("TLS: there is no channel to bind to yet", stage="tls")
    return finished


def server_key(tls: Tls) -> bytes:
    """SHA-256 of the public key that the server proved; empty where there is none to be read."""
    try:
        return _spki_sha256(tls.getpeercert(binary_form=True) or b"")
    except ValueError:
        return b""


def _is_same_address(one: str, other: str) -> bool:
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return False
