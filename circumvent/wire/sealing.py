"""How a bundle's payload is packed, and sealed to a bucket so that outsiders learn nothing.

Packed: ``u32 length | zlib`` and zeros up to a multiple of PAD_TO, so that the size does not tell
how many entries there are. Sealed: HPKE (RFC 9180) in base mode, DHKEM(X25519, HKDF-SHA256),
HKDF-SHA256, ChaCha20Poly1305, as ``enc | ciphertext``.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # 9 MB otherwise
    from cryptography.hazmat.primitives.hpke import Suite

PAD_TO = 1024  # bytes; about ten entries
LENGTH = 4
BUCKET_KEY_SIZE = 32  # RFC 7748 §5: a raw X25519 key
_INFO = b"circumvent bundle v1"


def pack(data: bytes) -> bytes:
    """Compress and pad."""
    body = zlib.compress(data, 9)
    size = LENGTH + len(body)
    return len(body).to_bytes(LENGTH) + body + bytes(-size % PAD_TO)


def unpack(packed: bytes, limit: int) -> bytes:
    """What was packed; raises ValueError, also when it is more than ``limit`` bytes."""
    end = LENGTH + int.from_bytes(packed[:LENGTH])
    if len(packed) < LENGTH or end > len(packed) or any(packed[end:]):
        message = "its padding is wrong"
        raise ValueError(message)
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed[LENGTH:end], limit)
    except zlib.error as error:
        message = "is not compressed as it should be"
        raise ValueError(message) from error
    if not inflater.eof or inflater.unused_data:
        message = f"is cut, or more than {limit} bytes when unpacked"
        raise ValueError(message)
    return data


def seal(packed: bytes, bucket_public_key: bytes) -> bytes:
    """Encrypt to a bucket."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey  # noqa: PLC0415

    public_key = X25519PublicKey.from_public_bytes(bucket_public_key)
    return _suite().encrypt(packed, public_key, _INFO)


def unseal(sealed: bytes, bucket_private_key: bytes) -> bytes | None:
    """Decrypt; None when it is not for this bucket."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: PLC0415

    private_key = X25519PrivateKey.from_private_bytes(bucket_private_key)
    try:
        return _suite().decrypt(sealed, private_key, _INFO)
    except (InvalidTag, ValueError):
        return None


def bucket_public_key(bucket_private_key: bytes) -> bytes:
    """The raw X25519 public key to which a bucket's bundles are sealed."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: PLC0415

    private_key = X25519PrivateKey.from_private_bytes(bucket_private_key)
    return private_key.public_key().public_bytes_raw()


def _suite() -> Suite:
    from cryptography.hazmat.primitives import hpke  # noqa: PLC0415 - 9 MB

    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
