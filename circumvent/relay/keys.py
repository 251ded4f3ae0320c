"""The relay's own key and certificate, and the TLS contexts of its server side."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from circumvent.errors import ConfigError
from circumvent.relay.cover import nginx

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName

_VALID = dt.timedelta(days=10 * 365)  # clients check the key, not the date
_BACKDATED = dt.timedelta(
    days=2
)  # a client's clock may be wrong; and it hides when the relay was made


def make_identity(host: str) -> tuple[bytes, bytes]:
    """A new P-256 key and its self-signed certificate, both in PEM."""
    from cryptography import x509  # noqa: PLC0415 - only needed to make or pin keys
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host[:64])])
    since = dt.datetime.now(dt.UTC) - _BACKDATED
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + _VALID)
        .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return secret, certificate.public_bytes(serialization.Encoding.PEM)


def _general_name(host: str) -> GeneralName:
    from cryptography import x509  # noqa: PLC0415

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def pin(certificate: Path) -> bytes:
    """SHA-256 of the public key (SubjectPublicKeyInfo) in a PEM file; raises ConfigError."""
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    try:
        key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{certificate} is not a certificate in PEM: {error}", stage="tls"
        ) from error
    encoded = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).digest()


def web_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS on the relay's port, offered as nginx offers it; raises ConfigError."""
    context = _load(certificate, key)
    # As Debian configures nginx. OpenSSL's own security level then refuses what is below TLS 1.2,
    # with the alert that nginx sends; our clients refuse what is below TLS 1.3.
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers(nginx.CIPHERS)
    context.set_alpn_protocols(list(nginx.PROTOCOLS))
    # As nginx and HAProxy: send no alert to a client that left without close_notify.
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


def inner_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS inside of a WebSocket or of an HTTP carrier; only our own clients speak it.

    Raises ConfigError.
    """
    context = _load(certificate, key)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{certificate} and {key} are not a certificate with its key: {error}", stage="tls"
        ) from error
    return context
