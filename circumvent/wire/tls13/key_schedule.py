"""From secrets to keys (RFC 8446 §7) and the hash of all that was said (RFC 8446 §4.4.1)."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache

from circumvent.wire.tls13.codes import Message
from circumvent.wire.tls13.reader import u16, vector8, vector24
from circumvent.wire.tls13.suites import Suite


def extract(hash_name: str, salt: bytes, key: bytes) -> bytes:
    """HKDF-Extract (RFC 5869 §2.2)."""
    return hmac.digest(salt, key, hash_name)


def expand(hash_name: str, secret: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand (RFC 5869 §2.3), of ``size`` bytes."""
    output = block = b""
    count = 1
    while len(output) < size:
        block = hmac.digest(secret, block + info + bytes((count,)), hash_name)
        output += block
        count += 1
    return output[:size]


def expand_label(hash_name: str, secret: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 §7.1), of ``size`` bytes."""
    info = u16(size) + vector8(b"tls13 " + label) + vector8(context)
    return expand(hash_name, secret, info, size)


@lru_cache(maxsize=4)
def _empty_hash(hash_name: str) -> bytes:
    return hashlib.new(hash_name).digest()


class Transcript:
    """The hash of all messages; which hash it is shows only in the ServerHello.

    Until then the messages themselves are kept.
    """

    __slots__ = ("_hash", "_said")

    def __init__(self) -> None:
        self._said = b""
        self._hash = hashlib.sha256()

    def add(self, message: bytes) -> None:
        """``message`` has its header of four bytes."""
        if self._said:
            self._said += message
        else:
            self._hash.update(message)

    def start(self, client_hello: bytes) -> None:
        """Keep the first message until the hash is known."""
        self._said = client_hello

    def choose(self, hash_name: str) -> None:
        """The hash is known now."""
        if self._said:
            self._hash = hashlib.new(hash_name, self._said)
            self._said = b""

    def retry(self, hash_name: str) -> None:
        """A HelloRetryRequest: the first ClientHello counts as its hash (RFC 8446 §4.4.1)."""
        digest = hashlib.new(hash_name, self._said).digest()
        self._said = bytes((Message.MESSAGE_HASH,)) + vector24(digest)
        self.choose(hash_name)

    def digest(self) -> bytes:
        """Of all that was added."""
        return self._hash.copy().digest()

    def digest_with(self, message: bytes) -> bytes:
        """Of all that was added and of ``message``, which is not added."""
        copy = self._hash.copy()
        copy.update(message)
        return copy.digest()


class KeySchedule:
    """The secrets of one connection, one after the other (the figure in RFC 8446 §7.1)."""

    __slots__ = ("_secret", "suite")

    def __init__(self, suite: Suite, psk: bytes = b"") -> None:
        self.suite = suite
        zeros = bytes(suite.hash_size)
        self._secret = extract(suite.hash_name, zeros, psk or zeros)

    def binder_key(self) -> bytes:
        """The key of the proof that we know the secret of a ticket."""
        return self._derive(b"res binder", _empty_hash(self.suite.hash_name))

    def mix(self, shared: bytes) -> None:
        """Go on to the next secret with what both ends agreed on; empty for zeros."""
        name = self.suite.hash_name
        salt = self._derive(b"derived", _empty_hash(name))
        self._secret = extract(name, salt, shared or bytes(self.suite.hash_size))

    def traffic(self, label: bytes, transcript: bytes) -> bytes:
        """A secret such as "c hs traffic"; ``transcript`` is the hash up to now."""
        return self._derive(label, transcript)

    def _derive(self, label: bytes, context: bytes) -> bytes:
        suite = self.suite
        return expand_label(suite.hash_name, self._secret, label, context, suite.hash_size)


def finished(suite: Suite, secret: bytes, transcript: bytes) -> bytes:
    """The contents of a Finished message (RFC 8446 §4.4.4), and of a binder."""
    key = expand_label(suite.hash_name, secret, b"finished", b"", suite.hash_size)
    return hmac.digest(key, transcript, suite.hash_name)


def next_secret(suite: Suite, secret: bytes) -> bytes:
    """After a KeyUpdate (RFC 8446 §7.2)."""
    return expand_label(suite.hash_name, secret, b"traffic upd", b"", suite.hash_size)


def ticket_secret(suite: Suite, resumption: bytes, nonce: bytes) -> bytes:
    """The secret of one ticket (RFC 8446 §4.6.1)."""
    return expand_label(suite.hash_name, resumption, b"resumption", nonce, suite.hash_size)


def export(suite: Suite, exporter: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """Keying material for somebody else (RFC 8446 §7.5), of ``size`` bytes."""
    name = suite.hash_name
    secret = expand_label(name, exporter, label, _empty_hash(name), suite.hash_size)
    return expand_label(name, secret, b"exporter", hashlib.new(name, context).digest(), size)
