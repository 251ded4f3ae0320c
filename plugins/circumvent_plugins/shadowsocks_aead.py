"""The Shadowsocks AEAD stream (SIP004): ``salt | [E(length) | E(payload)] ...`` each way.

Opens and seals in the caller's block. Plaintext and ciphertext never overlap: what is read
lands one record behind where its plaintext goes, what is written starts one record behind
where its ciphertext goes. A partial record stays in the kernel, unless it chokes it (measured:
docs/decisions/0006), so no buffer is held between steps; nor are cipher contexts, which are kept
for the streams that were busy last.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from types import ModuleType
from typing import Protocol, cast

from circumvent.api import (
    Account,
    LayerStream,
    Lease,
    PeekStream,
    ProtocolError,
    StreamResetError,
)

TAG = 16
LENGTH = 2
LENGTH_SEALED = LENGTH + TAG
MAX_PAYLOAD = 0x3FFF  # SIP004: the upper two bits of the length are reserved
OVERHEAD = LENGTH_SEALED + TAG
MAX_RECORD = MAX_PAYLOAD + OVERHEAD
# 2.5 KiB each, measured; a busy stream needs two.
_WARM_CIPHERS = 64
# Records in the largest block: each adds OVERHEAD to what the gap must cover.
_RECORDS_PER_BLOCK = 17
_LOOK_AGAIN = 0.05  # seconds after which there may be memory for a partial record

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


class AeadStream(LayerStream):
    """Seals what is written to ``base`` and opens what is read from it."""

    __slots__ = (
        "_account",
        "_cipher",
        "_is_choked",
        "_kept",
        "_kept_size",
        "_key",
        "_open_at",
        "_open_key",
        "_payload",
        "_salt",
        "_seal_at",
        "_seal_key",
        "_tcp",
    )

    def __init__(self, base: PeekStream, cipher: Cipher, key: bytes, account: Account) -> None:
        super().__init__(base)
        self._tcp = base
        self._account = account
        self._kept: Lease | None = None
        self._kept_size = 0
        self._is_choked = False
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
        self._is_choked = False
        sealed = buffer[MAX_RECORD:]
        kept = self._restore(sealed)
        count = self._tcp.peek_into(sealed[kept:])
        if not count:
            return self._end(count)
        count += kept
        at, plain = self._open_records(sealed[:count], buffer)
        if at:
            self._tcp.discard(at - kept)
            self._forget_kept()
        if not (plain and self._tcp.ended):  # what is whole comes before the error
            self._expect(sealed[at:count])
        return plain or None

    def wait_readable(self) -> Awaitable[None]:
        return asyncio.sleep(_LOOK_AGAIN) if self._is_choked else self._tcp.wait_readable()

    def _open_records(self, sealed: memoryview, plain: memoryview) -> tuple[int, int]:
        """Open every whole record; returns how much of both was used."""
        at = used = 0
        if not self._open_key:
            at = self._take_salt(sealed)
            if not at:
                return 0, 0
        opened, payload = self._open_at, self._payload
        count = len(sealed)
        decrypt = _warm(self._cipher.make, self._open_key).decrypt_into
        try:
            while True:
                if payload < 0:
                    end = at + LENGTH_SEALED
                    if end > count:
                        break
                    # Over its own ciphertext: the very same memory is explicitly allowed.
                    length = sealed[at : at + LENGTH]
                    decrypt(opened.to_bytes(12, "little"), sealed[at:end], None, length)
                    opened += 1
                    at, payload = end, length[0] << 8 | length[1]
                    if not 0 < payload <= MAX_PAYLOAD:
                        raise ProtocolError(
                            f"the server announced a record of {payload} bytes", stage="read"
                        )
                end = at + payload + TAG
                if end > count:
                    break
                target = plain[used : used + payload]
                decrypt(opened.to_bytes(12, "little"), sealed[at:end], None, target)
                opened += 1
                used += payload
                at, payload = end, -1
        except ProtocolError:
            raise
        except Exception as error:  # InvalidTag lives in a module that costs memory to import
            raise ProtocolError(
                "a record from the server does not authenticate: wrong password or altered",
                stage="read",
            ) from error
        self._open_at, self._payload = opened, payload
        return at, used

    def _end(self, count: int | None) -> int | None:
        is_inside = self._payload >= 0 or self._kept_size
        if count is None:
            self._tcp.expect(self._missing() - self._kept_size if is_inside else 1)
        elif is_inside:
            self._cut()
        return count

    def _missing(self) -> int:
        """Length of what comes next, from its start."""
        if not self._open_key:
            return self._cipher.key_size
        return LENGTH_SEALED if self._payload < 0 else self._payload + TAG

    def _expect(self, partial: memoryview) -> None:
        """Sleep until the record that starts with ``partial`` is whole."""
        if not partial:
            self._tcp.expect(1)
        elif len(partial) < self._missing():  # else the buffer was full: read on at once
            if self._tcp.ended:
                self._cut()
            if self._tcp.starved:
                self._keep(partial)
            self._tcp.expect(1 if self._is_choked else self._missing() - self._kept_size)

    def _keep(self, partial: memoryview) -> None:
        """Take a partial record out of the kernel; if there is no memory for it, a little later.

        Its last bytes may pin a whole receive buffer's worth of kernel memory, so that nothing
        more is taken in and the record would never become whole.
        """
        if self._kept is None:
            self._kept = self._account.try_hold(MAX_RECORD)
            if self._kept is None:
                self._is_choked = True
                return
        self._kept.view[: len(partial)] = partial
        self._tcp.discard(len(partial) - self._kept_size)
        self._kept_size = len(partial)

    def _restore(self, sealed: memoryview) -> int:
        if self._kept is not None:
            sealed[: self._kept_size] = self._kept.view[: self._kept_size]
        return self._kept_size

    def _forget_kept(self) -> None:
        if self._kept is not None:
            self._kept.release()
            self._kept, self._kept_size = None, 0

    async def aclose(self) -> None:
        self._forget_kept()
        await super().aclose()

    def abort(self) -> None:
        self._forget_kept()
        super().abort()

    def _cut(self) -> None:
        raise StreamResetError(
            "connection lost: it was cut, for the server's stream ended inside a record",
            stage="read",
        )

    def _take_salt(self, sealed: memoryview) -> int:
        size = self._cipher.key_size
        if len(sealed) < size:
            return 0
        self._open_key = subkey(self._key, bytes(sealed[:size]))
        return size

    def write(self, block: memoryview, start: int, end: int) -> int:
        if start == end:
            return 0
        at = first = start - self._gap(end - start)
        if self._salt:
            block[at : at + len(self._salt)] = self._salt
            at += len(self._salt)
            self._salt = b""
        encrypt = _warm(self._cipher.make, self._seal_key).encrypt_into
        sealed = self._seal_at
        for piece in range(start, end, MAX_PAYLOAD):
            plain = block[piece : min(piece + MAX_PAYLOAD, end)]
            body = at + LENGTH_SEALED
            length = block[at : at + LENGTH]
            length[:] = len(plain).to_bytes(LENGTH)
            encrypt(sealed.to_bytes(12, "little"), length, None, block[at:body])
            at = body + len(plain) + TAG
            encrypt((sealed + 1).to_bytes(12, "little"), plain, None, block[body:at])
            sealed += 2
        self._seal_at = sealed
        self._tcp.write(block, first, at)
        return end - start

    def _gap(self, size: int) -> int:
        """How far in front of the plaintext the ciphertext starts, so that they never meet."""
        records = -(-size // MAX_PAYLOAD)
        return min(size, MAX_PAYLOAD) + records * OVERHEAD + len(self._salt)
