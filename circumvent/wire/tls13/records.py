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
            raise bad_mac()
        nonce = (self._iv ^ self._sequence).to_bytes(_NONCE)
        head, sealed = record[:RECORD_HEADER], record[RECORD_HEADER:]
        try:
            self._aead.decrypt_into(nonce, sealed, head, into[:room])
        except InvalidTag:
            raise bad_mac() from None
        self._sequence += 1
        return strip(into, room)

    def open_data(
        self, wire: memoryview, plain: memoryview, most: int
    ) -> tuple[int, int, int, int]:
        """Open records at the front of ``wire`` while they are data, at most ``most``.

        Returns the bytes of ``wire`` that were used; those of data in ``plain``; the size without
        header and tag of one more record, opened behind these, that is something else or padded,
        or 0; and what is left of ``most``. One call for many records: a download costs this loop.
        Raises Fault for a forged record once there is none before it.
        """
        at = used = 0
        count, room = len(wire), len(plain)
        decrypt, iv, sequence = self._aead.decrypt_into, self._iv, self._sequence
        inner = 0
        try:
            while most and at + RECORD_HEADER < count and wire[at] == _DATA:
                body = at + RECORD_HEADER
                size = wire[at + 3] << 8 | wire[at + 4]
                end = body + size
                if end > count or not TAG < size <= MAX_SEALED or used + end - at > room:
                    break
                stop = used + size - TAG
                nonce = (iv ^ sequence).to_bytes(_NONCE)
                decrypt(nonce, wire[body:end], wire[at:body], plain[used:stop])
                sequence += 1
                most -= 1
                at = end
                if plain[stop - 1] != _DATA or not 1 < stop - used <= MAX_PLAINTEXT + 1:
                    inner = stop - used
                    break
                used = stop - 1
        except InvalidTag:
            if not at:
                raise bad_mac() from None
        self._sequence = sequence
        return at, used, inner, most


def bad_mac() -> Fault:
    """A record is not what the peer's key sealed."""
    return Fault(Alert.BAD_RECORD_MAC, "a record does not authenticate, it was altered on the way")


def strip(inner: memoryview, size: int) -> tuple[int, int]:
    """The content type and the size of what was opened to the front of ``inner``; raises Fault.

    Behind the data come its type, which is not zero, and zeros (RFC 8446 §5.2, §5.4).
    """
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
        if start == end:
            return first, first
        limit, encrypt, iv, sequence = self.limit, self._aead.encrypt_into, self._iv, self._sequence
        head = _DATA_HEAD + (limit + 1 + TAG).to_bytes(2)
        # The type must stand right behind the data: in the next piece, or the last one moves.
        for stop in range(start + limit, end, limit):
            borrowed, block[stop] = block[stop], _DATA
            body, done = at + RECORD_HEADER, at + limit + OVERHEAD
            block[at:body] = head
            nonce = (iv ^ sequence).to_bytes(_NONCE)
            encrypt(nonce, block[stop - limit : stop + 1], head, block[body:done])
            block[stop] = borrowed
            sequence += 1
            at = done
        self._sequence = sequence
        last = end - ((end - start - 1) % limit + 1)
        block[last - 1 : end - 1] = block[last:end]
        block[end - 1] = _DATA
        done = at + end - last + OVERHEAD
        self._seal(block[last - 1 : end], block[at:done])
        return first, done

    def _seal(self, inner: memoryview, record: memoryview) -> None:
        head = _DATA_HEAD + (len(inner) + TAG).to_bytes(2)
        record[:RECORD_HEADER] = head
        nonce = (self._iv ^ self._sequence).to_bytes(_NONCE)
        self._aead.encrypt_into(nonce, inner, head, record[RECORD_HEADER:])
        self._sequence += 1
