"""The sender of HPKE in base mode (RFC 9180), with additional data, which ECH needs.

``cryptography`` has HPKE for single messages without additional data. The key exchange is
DHKEM(X25519, HKDF-SHA256), the derivation HKDF-SHA256.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from circumvent.wire.tls13.key_schedule import expand, extract
from circumvent.wire.tls13.reader import u16

KEM, KDF = 0x0020, 0x0001
AEADS: dict[int, tuple[int, type[AESGCM | ChaCha20Poly1305]]] = {
    0x0001: (16, AESGCM),
    0x0002: (32, AESGCM),
    0x0003: (32, ChaCha20Poly1305),
}
_HASH = "sha256"
_SIZE = 32
_NONCE = 12
_BASE_MODE = b"\0"
_KEM_SUITE = b"KEM" + u16(KEM)


class Sealing:
    """Seals messages one after the other, with what both ends agreed on (RFC 9180 §5.1)."""

    __slots__ = ("_aead", "_iv", "_sequence")

    def __init__(self, shared: bytes, aead: int, info: bytes) -> None:
        suite = b"HPKE" + u16(KEM) + u16(KDF) + u16(aead)
        context = (
            _BASE_MODE
            + _labeled_extract(suite, b"", b"psk_id_hash", b"")
            + _labeled_extract(suite, b"", b"info_hash", info)
        )
        secret = _labeled_extract(suite, shared, b"secret", b"")
        size, make = AEADS[aead]
        self._aead = make(_labeled_expand(suite, secret, b"key", context, size))
        self._iv = int.from_bytes(_labeled_expand(suite, secret, b"base_nonce", context, _NONCE))
        self._sequence = 0

    def seal(self, plaintext: bytes, additional: bytes) -> bytes:
        """16 bytes more than ``plaintext``."""
        return self._aead.encrypt(self._next_nonce(), plaintext, additional)

    def _next_nonce(self) -> bytes:
        nonce = (self._iv ^ self._sequence).to_bytes(_NONCE)
        self._sequence += 1
        return nonce


def start(
    public: bytes, aead: int, info: bytes, ephemeral: X25519PrivateKey | None = None
) -> tuple[bytes, Sealing]:
    """What the owner of ``public`` needs, and what seals messages to it.

    ``ephemeral`` is for tests. Raises ValueError when ``public`` is no key.
    """
    private = ephemeral or X25519PrivateKey.generate()
    own = private.public_key().public_bytes_raw()
    return own, Sealing(shared_secret(private, public, own + public), aead, info)


def shared_secret(private: X25519PrivateKey, peer: bytes, context: bytes) -> bytes:
    """What both ends get from the key exchange (RFC 9180 §4.1)."""
    agreed = private.exchange(X25519PublicKey.from_public_bytes(peer))
    secret = _labeled_extract(_KEM_SUITE, b"", b"eae_prk", agreed)
    return _labeled_expand(_KEM_SUITE, secret, b"shared_secret", context, _SIZE)


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
    return extract(_HASH, salt, b"HPKE-v1" + suite + label + key)


def _labeled_expand(suite: bytes, secret: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return expand(_HASH, secret, u16(size) + b"HPKE-v1" + suite + label + info, size)
