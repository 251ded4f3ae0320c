"""The knock: proof, inside an ordinary web request, that its sender was invited.

It is a cookie like those of any web site; without the relay's knock key it looks random:
``base64url(nonce | ChaCha20-Poly1305(u8 kind | u64 time | note))``. The associated data is what
the proof is bound to: the TLS channel where that ends at the relay, nothing where a CDN or a web
server is in between; there the time and the nonce keep it from being used twice.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from circumvent.errors import LinkError
from circumvent.wire.base64url import decode_base64, encode_base64url

if TYPE_CHECKING:  # 9 MB otherwise
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

KNOCK_KEY_SIZE = 16  # bytes, in every invite to a relay
NONCE_SIZE = 12  # RFC 8439 §2.8
MAX_NOTE = 32  # bytes; a session's number and a sequence number fit
COOKIE = "session"

_BODY = struct.Struct(">BQ")
_TAG = 16
_SMALLEST = NONCE_SIZE + _BODY.size + _TAG
_PURPOSE = b"circumvent knock"  # 16 bytes at most: BLAKE2's "person"
_KEYS = 64  # a relay has one or two, a client one for each relay
_SHORTEST, _LONGEST = -(-_SMALLEST * 4 // 3), -(-(_SMALLEST + MAX_NOTE) * 4 // 3)
_KNOCK = re.compile(
    rb"(?:^|; ?)" + COOKIE.encode() + rb"=([A-Za-z0-9_-]{%d,%d})(?:;|$)" % (_SHORTEST, _LONGEST)
)
_NO_KNOCK = b"A" * _SHORTEST


class KnockKind(IntEnum):
    """Which kind of carrier the sender wants to begin; only ``TLS`` is bound to its channel."""

    TLS = 1
    WEBSOCKET = 2
    DOWNLOAD = 3
    UPLOAD = 4


@dataclass(frozen=True, slots=True)
class Knock:
    """``at`` is the sender's Unix time in seconds; ``note`` is the carrier's own."""

    kind: KnockKind
    at: int
    nonce: bytes
    note: bytes = b""


def seal_knock(key: bytes, knock: Knock, binding: bytes = b"") -> str:
    """The value of a Cookie header; ``knock.nonce`` must be fresh and random."""
    body = _BODY.pack(knock.kind, knock.at) + knock.note
    sealed = _cipher(key).encrypt(knock.nonce, body, binding or None)
    return f"{COOKIE}={encode_base64url(knock.nonce + sealed)}"


def open_knock(key: bytes, cookies: bytes, binding: bytes) -> Knock | None:
    """The knock among ``cookies``, or None; both take the same time.

    ``binding`` is that of the channel that carried them, empty where there is none.
    """
    sealed = _candidate(cookies)
    bound, free = _open(key, sealed, binding), _open(key, sealed, b"")
    if bound is not None and binding and bound.kind is KnockKind.TLS:
        return bound
    return free if free is not None and free.kind is not KnockKind.TLS else None


def _candidate(cookies: bytes) -> bytes:
    """The cookie that may be a knock; a dummy where there is none, so that the work is the same."""
    match = _KNOCK.search(cookies)
    try:
        return decode_base64(COOKIE, (match[1] if match else _NO_KNOCK).decode())
    except LinkError:
        return bytes(_SMALLEST)


def _open(key: bytes, sealed: bytes, binding: bytes) -> Knock | None:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - 9 MB

    nonce = sealed[:NONCE_SIZE]
    try:
        body = _cipher(key).decrypt(nonce, sealed[NONCE_SIZE:], binding or None)
        kind, at = _BODY.unpack_from(body)
        return Knock(KnockKind(kind), at, nonce, body[_BODY.size :])
    except (InvalidTag, ValueError):
        return None


@lru_cache(maxsize=_KEYS)
def _cipher(key: bytes) -> ChaCha20Poly1305:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

    return ChaCha20Poly1305(hashlib.blake2b(key=key, person=_PURPOSE, digest_size=32).digest())
