"""Checks a server's signature over the handshake (RFC 8446 §4.4.3)."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from circumvent.wire.tls13.codes import Alert
from circumvent.wire.tls13.faults import Fault

_CONTEXT = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"

Check = Callable[[CertificatePublicKeyTypes, bytes, bytes], None]  # key, signature, what is signed

_MlDsaKey = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey


class _WrongKeyError(Exception):
    """The scheme is not for this kind of key."""


def _ecdsa(curve: type[ec.EllipticCurve], digest: hashes.HashAlgorithm) -> Check:
    def check(key: CertificatePublicKeyTypes, signature: bytes, signed: bytes) -> None:
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, curve):
            raise _WrongKeyError
        key.verify(signature, signed, ec.ECDSA(digest))

    return check


def _pss(digest: hashes.HashAlgorithm) -> Check:
    scheme = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)

    def check(key: CertificatePublicKeyTypes, signature: bytes, signed: bytes) -> None:
        if not isinstance(key, rsa.RSAPublicKey):
            raise _WrongKeyError
        key.verify(signature, signed, scheme, digest)

    return check


def _ed25519(key: CertificatePublicKeyTypes, signature: bytes, signed: bytes) -> None:
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise _WrongKeyError
    key.verify(signature, signed)


def _mldsa(kind: type[_MlDsaKey]) -> Check:
    def check(key: CertificatePublicKeyTypes, signature: bytes, signed: bytes) -> None:
        if not isinstance(key, kind):
            raise _WrongKeyError
        key.verify(signature, signed)

    return check


# RFC 8446 §4.2.3, draft-ietf-tls-mldsa. PKCS1 and SHA-1 are in browsers' lists for certificates,
# never for this.
_CHECKS: dict[int, Check] = {
    0x0403: _ecdsa(ec.SECP256R1, hashes.SHA256()),
    0x0503: _ecdsa(ec.SECP384R1, hashes.SHA384()),
    0x0603: _ecdsa(ec.SECP521R1, hashes.SHA512()),
    0x0804: _pss(hashes.SHA256()),
    0x0805: _pss(hashes.SHA384()),
    0x0806: _pss(hashes.SHA512()),
    0x0807: _ed25519,
    0x0904: _mldsa(mldsa.MLDSA44PublicKey),
    0x0905: _mldsa(mldsa.MLDSA65PublicKey),
    0x0906: _mldsa(mldsa.MLDSA87PublicKey),
}


def check_signature(
    key: CertificatePublicKeyTypes, scheme: int, signature: bytes, transcript: bytes
) -> None:
    """``transcript`` is the hash of all that came before; raises Fault.

    Ed25519 is accepted though browsers do not offer it: REALITY and private servers use it.
    """
    check = _CHECKS.get(scheme)
    if check is None:
        raise Fault(Alert.ILLEGAL_PARAMETER, "the server signed in a way that was not offered")
    try:
        check(key, signature, _CONTEXT + transcript)
    except _WrongKeyError:
        raise Fault(
            Alert.ILLEGAL_PARAMETER,
            "the server's signature does not fit the key in its certificate",
        ) from None
    except InvalidSignature:
        raise Fault(
            Alert.DECRYPT_ERROR,
            "the server does not hold the key of its certificate, somebody else answers",
        ) from None
