"""The Shadowsocks AEAD stream (SIP004): ``salt | [E(length) | E(payload)] ...`` each way.

Opens and seals in the caller's block. Plaintext and ciphertext never overlap: what is read
lands one record behind where its plaintext goes, what is written starts one record behind
where its ciphertext goes. A partial record stays in the kernel, so no buffer is held between
steps; nor are cipher contexts, which are kept for the streams that were busy last.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from circumvent.api import LayerStream, PeekStream, ProtocolError

TAG = 16
LENGTH = 2
LENGTH_SEALED = LENGTH + TAG
MAX_PAYLOAD = 0x3FFF  # SIP004: the upper two bits of the length are reserved
OVERHEAD = LENGTH_SEALED + TAG
MAX_RECORD = MAX_PAYLOAD + OVERHEAD
# 2.5 KiB each, measured; a busy stream needs two.
_WARM_CIPHERS = 256
# Records in the largest block: each adds OVERHEAD to what the gap must cover.
_RECORDS_PER_BLOCK = 17


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


def _make_aes(key: bytes) -> Aead:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 9 MB

    return AESGCM(key)


def _make_chacha(key: bytes) -> Aead:
    from cryptography.hazmat.primitives.ciphers.aead import (  # noqa: PLC0415 - 9 MB
        ChaCha20Poly1305,
    )

    return ChaCha20Poly1305(key)


CIPHERS = {
    cipher.name: cipher
    for cipher in (
        Cipher("aes-128-gcm", 16, _make_aes),
        Cipher("aes-256-gcm", 32, _make_aes),
        Cipher("chacha20-ietf-poly1305", 32, _make_chacha),
    )
}


@lru_cache(maxsize=_WARM_CIPHERS)
def _warm(make: Callable[[bytes], Aead], subkey: bytes) -> Aead:
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
    extracted = hmac.digest(salt, key, "sha1")
    block = output = b""
    counter = 0
    while len(output) < len(key):
        counter += 1
        block = hmac.digest(extracted, block + b"ss-subkey" + bytes((counter,)), "sha1")
        output += block
    return output[: len(key)]


def _nonce(counter: int) -> bytes:
    return counter.to_bytes(12, "little")


class AeadStream(LayerStream):
    """Seals what is written to ``base`` and opens what is read from it."""

    __slots__ = (
        "_cipher",
        "_key",
        "_open_at",
        "_open_key",
        "_payload",
        "_salt",
        "_seal_at",
        "_seal_key",
        "_tcp",
    )

    def __init__(self, base: PeekStream, cipher: Cipher, key: bytes) -> None:
        super().__init__(base)
        self._tcp = base
        self._cipher = cipher
        self._key = key
        self._salt = os.urandom(cipher.key_size)
        self._seal_key = subkey(key, self._salt)
        self._seal_at = 0
        self._open_key = b""
        self._open_at = 0
        self._payload = -1  # length of the next payload once its header was opened
        self.record = 2 * MAX_RECORD
        self.overhead = MAX_RECORD + _RECORDS_PER_BLOCK * OVERHEAD
        self.headroom = MAX_RECORD + _RECORDS_PER_BLOCK * OVERHEAD + cipher.key_size

    def read_into(self, buffer: memoryview) -> int | None:
        sealed = buffer[MAX_RECORD:]
        count = self._tcp.peek_into(sealed)
        if not count:
            return self._end(count)
        at = self._take_salt(sealed, count) if not self._open_key else 0
        plain = 0
        aead = _warm(self._cipher.make, self._open_key) if self._open_key else None
        while aead is not None:
            if self._payload < 0:
                if count - at < LENGTH_SEALED:
                    break
                self._payload = self._open_length(aead, sealed[at : at + LENGTH_SEALED])
                at += LENGTH_SEALED
            end = at + self._payload + TAG
            if end > count:
                break
            self._open(aead, sealed[at:end], buffer[plain : plain + self._payload])
            plain += self._payload
            at, self._payload = end, -1
        if at:
            self._tcp.discard(at)
        if not (plain and self._tcp.ended):  # what is whole comes before the error
            self._expect(count - at)
        return plain or None

    def _end(self, count: int | None) -> int | None:
        if count is None:
            self._expect(0)
        elif self._payload >= 0:
            self._cut()
        return count

    def _expect(self, left: int) -> None:
        """Sleep until the record whose first ``left`` bytes wait in the kernel is whole."""
        if not self._open_key:
            missing = self._cipher.key_size
        elif self._payload >= 0:
            missing = self._payload + TAG
        else:
            missing = LENGTH_SEALED if left else 1
        if left >= missing:  # the buffer was full: the rest can be read at once
            return
        if left and self._tcp.ended:
            self._cut()
        self._tcp.expect(missing)

    def _cut(self) -> None:
        message = "the server's stream ends inside a record"
        raise ProtocolError(message, stage="read")

    def _take_salt(self, sealed: memoryview, count: int) -> int:
        size = self._cipher.key_size
        if count < size:
            return 0
        self._open_key = subkey(self._key, bytes(sealed[:size]))
        return size

    def _open_length(self, aead: Aead, sealed: memoryview) -> int:
        # Opened into the start of its own ciphertext: the same memory is explicitly allowed.
        self._open(aead, sealed, sealed[:LENGTH])
        length = int.from_bytes(sealed[:LENGTH])
        if not 0 < length <= MAX_PAYLOAD:
            message = f"the server announced a record of {length} bytes"
            raise ProtocolError(message, stage="read")
        return length

    def _open(self, aead: Aead, sealed: memoryview, plain: memoryview) -> None:
        try:
            aead.decrypt_into(_nonce(self._open_at), sealed, None, plain)
        except Exception as error:  # InvalidTag lives in a module that costs memory to import
            message = "a record from the server does not authenticate: wrong password or altered"
            raise ProtocolError(message, stage="read") from error
        self._open_at += 1

    def write(self, block: memoryview, start: int, end: int) -> int:
        if start == end:
            return 0
        at = first = start - self._gap(end - start)
        if self._salt:
            block[at : at + len(self._salt)] = self._salt
            at += len(self._salt)
            self._salt = b""
        aead = _warm(self._cipher.make, self._seal_key)
        for piece in range(start, end, MAX_PAYLOAD):
            at = self._seal(aead, block, at, block[piece : min(piece + MAX_PAYLOAD, end)])
        self._tcp.write(block, first, at)
        return end - start

    def _gap(self, size: int) -> int:
        """How far in front of the plaintext the ciphertext starts, so that they never meet."""
        records = -(-size // MAX_PAYLOAD)
        return min(size, MAX_PAYLOAD) + records * OVERHEAD + len(self._salt)

    def _seal(self, aead: Aead, block: memoryview, at: int, plain: memoryview) -> int:
        """Seal one record to ``block[at:]``; returns where it ends."""
        body = at + LENGTH_SEALED
        end = body + len(plain) + TAG
        length = block[at : at + LENGTH]
        length[:] = len(plain).to_bytes(LENGTH)
        aead.encrypt_into(_nonce(self._seal_at), length, None, block[at:body])
        aead.encrypt_into(_nonce(self._seal_at + 1), plain, None, block[body:end])
        self._seal_at += 2
        return end
