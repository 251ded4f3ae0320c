"""How a bundle's payload is packed, and sealed to a bucket so that others learn nothing.

Packed: zlib (RFC 1950). Sealed: the packed bytes, with zeros up to a multiple of PAD_TO so that the
size does not tell how many entries there are, in HPKE (RFC 9180) in base mode with
DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20Poly1305, as ``enc | ciphertext``.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # 9 MB otherwise
    from cryptography.hazmat.primitives.hpke import Suite

PAD_TO = 1024  # bytes; ten to twenty entries
BUCKET_KEY_SIZE = 32  # RFC 7748 §5: a raw X25519 key, public or private
_INFO = b"circumvent bundle v1"


def pack(data: bytes) -> bytes:
    """Compress ``data``."""
    return zlib.compress(data, 9)


def unpack(packed: bytes, limit: int) -> bytes:
    """Undo ``pack``; raises ValueError, also when the result is more than ``limit`` bytes."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed, limit + 1)
    except zlib.error as error:
        raise ValueError("is not compressed as it should be") from error
    if len(data) > limit or not inflater.eof:
        raise ValueError(f"is cut, or more than {limit} bytes when unpacked")
    if len(inflater.unused_data) >= PAD_TO or any(inflater.unused_data):
        raise ValueError("more than padding follows it")
    return data


def seal(packed: bytes, bucket_public_key: bytes) -> bytes:
    """Pad and encrypt to a bucket; raises ValueError when that is no X25519 key."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey  # noqa: PLC0415

    public_key = X25519PublicKey.from_public_bytes(bucket_public_key)
    return _suite().encrypt(packed + bytes(-len(packed) % PAD_TO), public_key, _INFO)


def unseal(sealed: bytes, bucket_private_key: bytes) -> bytes | None:
    """Decrypt; None when it is not for this bucket."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: PLC0415

    private_key = X25519PrivateKey.from_private_bytes(bucket_private_key)
    try:
        return _suite().decrypt(sealed, private_key, _INFO)
    except (InvalidTag, ValueError):
        return None


def _suite() -> Suite:
    from cryptography.hazmat.primitives import hpke  # noqa: PLC0415 - 9 MB

    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
