"""The three cipher suites of TLS 1.3 (RFC 8446 §B.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

# RFC 8446 §5.5 allows 2^24.5 records under one AES-GCM key. ChaCha20 has no such limit, but one
# number for both is simpler, and 256 GiB are a long time.
MAX_RECORDS = 1 << 24

Bytes = bytes | bytearray | memoryview


class Aead(Protocol):
    """What ``cryptography`` gives; the output may lie exactly over the input."""

    def encrypt_into(
        self, nonce: Bytes, data: Bytes, associated_data: Bytes | None, buf: Bytes
    ) -> int:
        """Seal ``data`` into ``buf``, which is 16 bytes longer."""

    def decrypt_into(
        self, nonce: Bytes, data: Bytes, associated_data: Bytes | None, buf: Bytes
    ) -> int:
        """Open ``data`` into ``buf``, which is 16 bytes shorter; raises InvalidTag."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A cipher suite: its number, its hash and its AEAD. Sizes are in bytes."""

    code: int
    hash_name: str
    hash_size: int  # of a secret, too
    key_size: int
    make_aead: Callable[[bytes], Aead]


SUITES = {
    suite.code: suite
    for suite in (
        Suite(0x1301, "sha256", 32, 16, AESGCM),
        Suite(0x1302, "sha384", 48, 32, AESGCM),
        Suite(0x1303, "sha256", 32, 32, ChaCha20Poly1305),
    )
}
