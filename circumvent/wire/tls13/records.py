"""Seals and opens the records of one direction (RFC 8446 §5), in the caller's memory.

One AEAD operation a record, and no copy of the data but for the last piece of a write.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag

from circumvent.wire.tls13.codes import (
    MAX_PLAINTEXT,
    MAX_SEALED,
    RECORD_HEADER,
    TAG,
    TLS12,
    Alert,
    Content,
)
from circumvent.wire.tls13.faults import Fault
from circumvent.wire.tls13.key_schedule import expand_label, next_secret
from circumvent.wire.tls13.reader import u8, u16, vector16
from circumvent.wire.tls13.suites import MAX_RECORDS, Suite

MAX_RECORD = RECORD_HEADER + MAX_SEALED
OVERHEAD = RECORD_HEADER + 1 + TAG  # what a record adds to its data: header, type, tag
_NONCE = 12
_DATA = int(Content.DATA)  # an enum's member costs more in the loop
_DATA_HEAD = u8(_DATA) + u16(TLS12)


def plain_record(content: Content, data: bytes, version: int = TLS12) -> bytes:
    """A record without encryption."""
    return u8(content) + u16(version) + vector16(data)


def record_size(head: bytes | memoryview) -> int:
    """The size of the whole record that starts with these five bytes; raises Fault.

    The version is not looked at (RFC 8446 §5.1).
    """
    size = head[3] << 8 | head[4]
    if not Content.CHANGE_CIPHER_SPEC <= head[0] <= Content.DATA:
        raise Fault(Alert.UNEXPECTED_MESSAGE, "what the server sent is no TLS record")
    if size > MAX_SEALED:
        raise Fault(Alert.RECORD_OVERFLOW, f"the server announced a record of {size} bytes")
    return RECORD_HEADER + size


class Direction:
    """The key of one direction: what it is, and how many records it was used for."""

    __slots__ = ("_aead", "_iv", "_secret", "_sequence", "_suite")

    def __init__(self, suite: Suite, secret: bytes) -> None:
        self._suite = suite
        self._start(secret)

    def _start(self, secret: bytes) -> None:
        suite = self._suite
        key = expand_label(suite.hash_name, secret, b"key", b"", suite.key_size)
        iv = expand_label(suite.hash_name, secret, b"iv", b"", _NONCE)
        self._secret, self._sequence = secret, 0
        self._aead, self._iv = suite.make_aead(key), int.from_bytes(iv)

    def update(self) -> None:
        """Go on with the next key (RFC 8446 §7.2)."""
        self._start(next_secret(self._suite, self._secret))

    @property
    def is_worn(self) -> bool:
        """Whether this key has sealed as much as it should (RFC 8446 §5.5)."""
        return self._sequence >= MAX_RECORDS


class Opener(Direction):
    """Opens the records of the peer."""

    __slots__ = ()

    def open(self, record: memoryview, into: memoryview) -> tuple[int, int]:
        """Open one whole record to the front of ``into``; its content type and its size.

        ``into`` may be the very memory behind the record's header, or lie apart from it; of it
        are used as many bytes as the record has without header and tag. Raises Fault.
        """
        room = len(record) - RECORD_HEADER - TAG
        if room < 1:
            raise _bad_mac()
        nonce = (self._iv ^ self._sequence).to_bytes(_NONCE)
        head, sealed = record[:RECORD_HEADER], record[RECORD_HEADER:]
        try:
            self._aead.decrypt_into(nonce, sealed, head, into[:room])
        except InvalidTag:
            raise _bad_mac() from None
        self._sequence += 1
        return _strip(into, room)


def _bad_mac() -> Fault:
    return Fault(Alert.BAD_RECORD_MAC, "a record does not authenticate, it was altered on the way")


def _strip(inner: memoryview, size: int) -> tuple[int, int]:
    """Behind the data come its type, which is not zero, and zeros (RFC 8446 §5.2, §5.4)."""
    content = inner[size - 1]
    if not content:
        size = len(bytes(inner[:size]).rstrip(b"\0"))
        if not size:
            raise Fault(Alert.UNEXPECTED_MESSAGE, "the server sent a record that is only padding")
        content = inner[size - 1]
    size -= 1
    if size > MAX_PLAINTEXT:
        raise Fault(Alert.RECORD_OVERFLOW, f"the server sent a record with {size} bytes of data")
    return content, size


class Sealer(Direction):
    """Seals our own records.

    ``limit``: bytes of data in one record; a server may ask for less (RFC 8449).
    """

    __slots__ = ("limit",)

    def __init__(self, suite: Suite, secret: bytes) -> None:
        super().__init__(suite, secret)
        self.limit = MAX_PLAINTEXT

    def seal(self, content: Content, data: bytes) -> bytes:
        """A whole record of at most ``MAX_PLAINTEXT`` bytes, for what is not the data path."""
        inner = data + u8(content)
        record = bytearray(RECORD_HEADER + len(inner) + TAG)
        self._seal(memoryview(inner), memoryview(record))
        return bytes(record)

    def headroom(self, size: int) -> int:
        """Bytes that ``seal_data`` needs in front of ``size`` bytes.

        Each record is written where it meets neither its own data nor that of the next ones.
        """
        records = -(-size // self.limit)
        return min(size, self.limit) + records * OVERHEAD + 1

    def seal_data(self, block: memoryview, start: int, end: int) -> tuple[int, int]:
        """Seal ``block[start:end]``; returns where in ``block`` the records now lie.

        Uses ``headroom`` bytes in front of ``start``, and the data itself as scratch.
        """
        at = first = start - self.headroom(end - start)
        for piece in range(start, end, self.limit):
            stop = min(piece + self.limit, end)
            done = at + stop - piece + OVERHEAD
            self._seal_piece(block, piece, stop, block[at:done], is_last=stop == end)
            at = done
        return first, at

    def _seal_piece(
        self, block: memoryview, start: int, end: int, record: memoryview, *, is_last: bool
    ) -> None:
        """The type must stand right behind the data: in the next piece, or all moves by one."""
        if is_last:
            block[start - 1 : end - 1] = block[start:end]
            block[end - 1] = _DATA
            self._seal(block[start - 1 : end], record)
        else:
            borrowed, block[end] = block[end], _DATA
            self._seal(block[start : end + 1], record)
            block[end] = borrowed

    def _seal(self, inner: memoryview, record: memoryview) -> None:
        head = _DATA_HEAD + (len(inner) + TAG).to_bytes(2)
        record[:RECORD_HEADER] = head
        nonce = (self._iv ^ self._sequence).to_bytes(_NONCE)
        self._aead.encrypt_into(nonce, inner, head, record[RECORD_HEADER:])
        self._sequence += 1
