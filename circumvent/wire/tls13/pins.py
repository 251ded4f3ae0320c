"""A server that shows a pinned certificate, or one for which a pinned authority vouches."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from circumvent.wire.tls13.codes import Alert
from circumvent.wire.tls13.faults import Fault
from circumvent.wire.tls13.proofs import PublicKey, Shown, digest_of_key, load, public_key


@dataclass(frozen=True, slots=True)
class PinnedServer:
    """SHA-256 digests, of which one must fit: of the certificate, or of its public key.

    With a pin, nobody else has to vouch for the certificate, and its name and dates say nothing.
    Where the pinned certificate is that of an authority in the chain, it must vouch for the
    server's, for one of ``names``.
    """

    certificate_sha256: tuple[bytes, ...] = ()
    spki_sha256: tuple[bytes, ...] = ()
    names: tuple[str, ...] = ()
    is_genuine = True
    key_sha256 = b""

    def check(self, shown: Shown) -> PublicKey:
        certificate = shown.chain[0]
        key = public_key(load(certificate))
        if hashlib.sha256(certificate).digest() in self.certificate_sha256:
            return key
        if self.spki_sha256 and digest_of_key(key) in self.spki_sha256:
            return key
        for authority in shown.chain[1:]:
            if hashlib.sha256(authority).digest() in self.certificate_sha256:
                return self._check_authority(authority, shown)
        raise Fault(Alert.CERTIFICATE_UNKNOWN, "the server's certificate is not the pinned one")

    def _check_authority(self, authority: bytes, shown: Shown) -> PublicKey:
        from circumvent.wire.tls13.verify import TrustedServer  # noqa: PLC0415 - a rare pin

        return TrustedServer(self.names, authority=load(authority)).check(shown)
