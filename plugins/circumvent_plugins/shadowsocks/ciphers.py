"""The ciphers and keys of Shadowsocks' AEAD streams (SIP004)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from types import ModuleType
from typing import Protocol, cast

# 2.5 KiB each, measured; a busy stream needs two.
_WARM_CIPHERS = 64
_SHA1_BLOCK = 64
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


class Aead(Protocol):
    """What ``cryptography``'s AEAD classes offer."""

    def encrypt_into(
        self, nonce: bytes, data: memoryview, associated_data: bytes | None, buf: memoryview
    ) -> int: ...

    def decrypt_into(
        self, nonce: bytes, data: memoryview, associated_data: bytes | None, buf: memoryview
    ) -> int: ...


@dataclass(frozen=True, slots=True)
class Cipher:
    """A method of SIP004; ``key_size`` in bytes is also the salt's length."""

    name: str
    key_size: int
    make: Callable[[bytes], Aead]


@cache
def _library() -> ModuleType:
    from cryptography.hazmat.primitives.ciphers import aead  # noqa: PLC0415 - 9 MB

    return aead


def _make_aes(key: bytes) -> Aead:
    return cast("Aead", _library().AESGCM(key))


def _make_chacha(key: bytes) -> Aead:
    return cast("Aead", _library().ChaCha20Poly1305(key))


CIPHERS = {
    cipher.name: cipher
    for cipher in (
        Cipher("aes-128-gcm", 16, _make_aes),
        Cipher("aes-256-gcm", 32, _make_aes),
        Cipher("chacha20-ietf-poly1305", 32, _make_chacha),
    )
}


@lru_cache(maxsize=_WARM_CIPHERS)
def warm_cipher(make: Callable[[bytes], Aead], subkey: bytes) -> Aead:
    """The cipher of a subkey; those that were used last are kept, not those of idle streams."""
    return make(subkey)


def master_key(password: str, size: int) -> bytes:
    """EVP_BytesToKey with MD5, no salt, one round, as OpenSSL derives it."""
    key = digest = b""
    while len(key) < size:
        digest = hashlib.md5(digest + password.encode(), usedforsecurity=False).digest()
        key += digest
    return key[:size]


def subkey(key: bytes, salt: bytes) -> bytes:
    """HKDF-SHA1 with the info "ss-subkey", as long as the key (RFC 5869 §2)."""
    extracted = _hmac_sha1(salt, key)
    block = output = b""
    counter = 0
    while len(output) < len(key):
        counter += 1
        block = _hmac_sha1(extracted, block + b"ss-subkey" + bytes((counter,)))
        output += block
    return output[: len(key)]


def _hmac_sha1(key: bytes, message: bytes) -> bytes:
    """RFC 2104, for keys of at most a block.

    In half the time of ``hmac.digest``, and each stream needs four.
    """
    block = key.ljust(_SHA1_BLOCK, b"\0")
    inner = hashlib.sha1(block.translate(_INNER) + message, usedforsecurity=False).digest()
    return hashlib.sha1(block.translate(_OUTER) + inner, usedforsecurity=False).digest()
