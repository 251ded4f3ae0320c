"""The Shadowsocks AEAD stream (SIP004): ``salt | [E(length) | E(payload)] ...`` each way.

Opens and seals in the caller's block. Plaintext and ciphertext never overlap: what is read
lands one record behind where its plaintext goes, what is written starts one record behind
where its ciphertext goes. No cipher context is held between steps. Where a partial record stays
depends on the base: see ``over_socket`` and ``over_stream``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import NoReturn

from circumvent.api import (
    Account,
    ByteStream,
    LayerStream,
    Lease,
    ProtocolError,
    StreamResetError,
)
from circumvent_plugins.shadowsocks.ciphers import Cipher, subkey, warm_cipher

TAG = 16
LENGTH = 2
LENGTH_SEALED = LENGTH + TAG
MAX_PAYLOAD = 0x3FFF  # SIP004: the upper two bits of the length are reserved
OVERHEAD = LENGTH_SEALED + TAG
MAX_RECORD = MAX_PAYLOAD + OVERHEAD
# Records in the largest block: each adds OVERHEAD to what the gap must cover.
RECORDS_PER_BLOCK = 17
_LOOK_AGAIN = 0.05  # seconds after which there may be memory for a partial record


class AeadStream(LayerStream):
    """Seals what is written to ``base`` and opens what is read; subclasses read from it.

    ``pass_on`` takes all of what is sealed: a nonce cannot be used again.
    """

    __slots__ = (
        "_account",
        "_cipher",
        "_is_choked",
        "_kept",
        "_kept_size",
        "_key",
        "_open_at",
        "_open_key",
        "_pass_on",
        "_payload",
        "_salt",
        "_seal_at",
        "_seal_key",
    )

    def __init__(
        self,
        base: ByteStream,
        cipher: Cipher,
        key: bytes,
        account: Account,
        pass_on: Callable[[memoryview, int, int], object],
    ) -> None:
        super().__init__(base)
        self._account = account
        self._pass_on = pass_on
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
        gap = MAX_RECORD + RECORDS_PER_BLOCK * OVERHEAD
        self.overhead = base.overhead + gap
        self.headroom = base.headroom + gap + cipher.key_size

    def put_prefix(self, prefix: bytes) -> None:
        """Let the salt begin with ``prefix``; only before the first write."""
        self._salt = prefix + self._salt[len(prefix) :]
        self._seal_key = subkey(self._key, self._salt)

    def wait_readable(self) -> Awaitable[None]:
        return asyncio.sleep(_LOOK_AGAIN) if self._is_choked else self.base.wait_readable()

    def _open_records(self, sealed: memoryview, plain: memoryview) -> tuple[int, int]:
        """Open every whole record; returns how many bytes of both buffers were used."""
        at = used = 0
        if not self._open_key:
            at = self._take_salt(sealed)
            if not at:
                return 0, 0
        opened, payload = self._open_at, self._payload
        count = len(sealed)
        decrypt = warm_cipher(self._cipher.make, self._open_key).decrypt_into
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

    def _missing(self) -> int:
        """Length of what comes next, from its start."""
        if not self._open_key:
            return self._cipher.key_size
        return LENGTH_SEALED if self._payload < 0 else self._payload + TAG

    @property
    def _is_inside(self) -> bool:
        """Whether part of a record was taken out of the base."""
        return self._payload >= 0 or self._kept_size > 0

    def _hold(self) -> Lease | None:
        """The lease for a partial record; without memory for one it is tried again later."""
        if self._kept is None:
            self._kept = self._account.try_hold(MAX_RECORD)
            self._is_choked = self._kept is None
        return self._kept

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

    def _cut(self) -> NoReturn:
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
        encrypt = warm_cipher(self._cipher.make, self._seal_key).encrypt_into
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
        self._pass_on(block, first, at)
        return end - start

    def _gap(self, size: int) -> int:
        """How far in front of the plaintext the ciphertext starts, so that they never overlap."""
        records = -(-size // MAX_PAYLOAD)
        return min(size, MAX_PAYLOAD) + records * OVERHEAD + len(self._salt)
