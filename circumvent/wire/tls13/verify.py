"""Whether a chain of certificates leads to an authority that the system trusts (RFC 5280).

Verification itself is ``cryptography``'s. The authorities are read when first needed.
"""

from __future__ import annotations

import ipaddress
import os
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path

from cryptography.x509 import (
    AuthorityKeyIdentifier,
    Certificate,
    DNSName,
    ExtendedKeyUsage,
    IPAddress,
    SubjectAlternativeName,
    load_pem_x509_certificate,
)
from cryptography.x509.extensions import ExtensionNotFound
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    Subject,
    VerificationError,
)

from circumvent.errors import ConfigError
from circumvent.wire.tls13.codes import Alert
from circumvent.wire.tls13.faults import Fault
from circumvent.wire.tls13.proofs import PublicKey, Shown, load, public_key

# Where systems keep their authorities in one file: Debian, Fedora, openSUSE, Alpine and macOS.
_PLACES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_END = b"-----END CERTIFICATE-----"
_OVERRIDE = "SSL_CERT_FILE"  # as OpenSSL and all that build on it


def system_file() -> str | None:
    """The file of the system's authorities; None where there is none."""
    named = os.environ.get(_OVERRIDE)
    return named or next((place for place in _PLACES if Path(place).is_file()), None)


def load_store(*files: str) -> Store | None:
    """All authorities in these PEM files, None if there is none; raises ConfigError.

    They are read anew once a file has changed: systems update theirs while a client runs.
    """
    try:
        return _load_store(tuple(map(_version, files)))
    except OSError as error:
        raise ConfigError(
            f"the certificate authorities in {error.filename} cannot be read: {error.strerror}"
        ) from error


def _version(file: str) -> tuple[str, int, int]:
    found = Path(file).stat()
    return file, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=4)
def _load_store(versions: tuple[tuple[str, int, int], ...]) -> Store | None:
    authorities = [authority for file, _, _ in versions for authority in _load_file(file)]
    return Store(authorities) if authorities else None


def _load_file(file: str) -> list[Certificate]:
    pieces = Path(file).read_bytes().split(_END)[:-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one has the serial number 0
        loaded = [_load_piece(piece + _END) for piece in pieces]
    return [authority for authority in loaded if authority is not None]


def _load_piece(piece: bytes) -> Certificate | None:
    """None for what the library refuses: some systems have very old authorities."""
    try:
        return load_pem_x509_certificate(piece)
    except ValueError:
        return None


@cache
def _leaf_policy() -> ExtensionPolicy:
    """That of the web, but for rules which no browser has and private authorities break."""
    policy = ExtensionPolicy.webpki_defaults_ee()
    agnostic = Criticality.AGNOSTIC
    policy = policy.require_present(SubjectAlternativeName, agnostic, None)
    policy = policy.may_be_present(AuthorityKeyIdentifier, agnostic, None)
    return policy.may_be_present(ExtendedKeyUsage, agnostic, _check_usage)


@cache
def _authority_policy() -> ExtensionPolicy:
    return ExtensionPolicy.webpki_defaults_ca()


def _check_usage(_: Policy, __: Certificate, usage: ExtendedKeyUsage | None) -> None:
    if usage is not None and ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        raise ValueError("it is not for servers")


@dataclass(frozen=True, slots=True)
class TrustedServer:
    """A chain to an authority, for one of ``names``: they are in ASCII, or IP addresses.

    ``ca_file``: further authorities, in PEM. ``authority`` is trusted alone where it is given.
    ``now`` is for tests.
    """

    names: tuple[str, ...]
    ca_file: str | None = None
    now: datetime | None = None
    authority: Certificate | None = None
    is_genuine = True
    key_sha256 = b""

    def check(self, shown: Shown) -> PublicKey:
        leaf, *others = [load(certificate) for certificate in shown.chain]
        now = self.now or datetime.now(UTC)
        failure: Exception = ValueError("it has no name to be held against")
        for name in self.names:
            try:
                self._verify(leaf, others, _subject(name), now)
            except (VerificationError, ValueError) as error:
                failure = error
            else:
                return public_key(leaf)
        raise self._why(leaf, others, now, failure)

    def _verify(
        self, leaf: Certificate, others: list[Certificate], subject: Subject, now: datetime
    ) -> None:
        store = self._store()
        if store is None:
            raise VerificationError(
                f"none is known here; install ca-certificates, or name a file in {_OVERRIDE}"
            )
        builder = PolicyBuilder().store(store).time(now)
        builder = builder.extension_policies(
            ca_policy=_authority_policy(), ee_policy=_leaf_policy()
        )
        builder.build_server_verifier(subject).verify(leaf, others)

    def _store(self) -> Store | None:
        if self.authority is not None:
            return Store([self.authority])
        return load_store(*(file for file in (system_file(), self.ca_file) if file))

    def _why(
        self, leaf: Certificate, others: list[Certificate], now: datetime, error: Exception
    ) -> Fault:
        """The library does not say; look what a user can do something about."""
        prefix = "the server's certificate is not valid: "
        if now > leaf.not_valid_after_utc:
            what = "it has expired, or the clock of this machine is ahead"
            return Fault(Alert.CERTIFICATE_EXPIRED, prefix + what)
        if now < leaf.not_valid_before_utc:
            what = "it is not valid yet: check the clock of this machine"
            return Fault(Alert.CERTIFICATE_EXPIRED, prefix + what)
        if self._is_for_another(leaf, others, now):
            return Fault(Alert.BAD_CERTIFICATE, prefix + "it is for another name")
        return Fault(Alert.UNKNOWN_CA, f"{prefix}no known authority vouches for it ({error})")

    def _is_for_another(self, leaf: Certificate, others: list[Certificate], now: datetime) -> bool:
        """Whether it would be valid, had one of its own names been asked for."""
        try:
            names = leaf.extensions.get_extension_for_class(SubjectAlternativeName).value
            own = next(name for name in names if isinstance(name, (DNSName, IPAddress)))
            if isinstance(own, DNSName):
                own = DNSName(own.value.replace("*", "any", 1))
            self._verify(leaf, others, own, now)
        except (ExtensionNotFound, StopIteration, VerificationError, ValueError):
            return False
        return True


def _subject(name: str) -> Subject:
    try:
        return IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return DNSName(name)
