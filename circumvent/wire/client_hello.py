"""Reads a TLS ClientHello: whether it is complete, so safe to send twice, and what it offers."""

from __future__ import annotations

MAX_FLIGHT = 16 * 1024  # with post-quantum shares and padding a ClientHello stays below 4 KiB

HANDSHAKE_RECORD = 22
MAX_FRAGMENT = 1 << 14  # RFC 8446 §5.1
CLIENT_HELLO = 1
ALPN = 16  # RFC 7301 §3.1
EARLY_DATA = 42
_TLS_MAJOR = 3
_RECORD_HEAD = 5
_MESSAGE_HEAD = 4
_HANDSHAKE = bytes((HANDSHAKE_RECORD, _TLS_MAJOR))


class _MalformedError(Exception):
    """The bytes are not what they should be."""


class _Reader:
    """Takes pieces from the front of ``data``; never reads past its end."""

    def __init__(self, data: memoryview) -> None:
        self.left = data

    def take(self, count: int) -> memoryview:
        if count > len(self.left):
            raise _MalformedError
        piece, self.left = self.left[:count], self.left[count:]
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int, low: int, high: int) -> memoryview:
        """A length of ``size`` bytes, which must be within ``low`` and ``high``, and its body."""
        count = self.number(size)
        _demand(low <= count <= high)
        return self.take(count)

    def end(self) -> None:
        _demand(not self.left)


def is_complete_client_hello(data: bytes | memoryview) -> bool:
    """Whether ``data`` is exactly one ClientHello (RFC 8446 §4.1.2) without early data.

    It may span several records; nothing may follow it. Never raises, whatever the bytes are.
    """
    if len(data) > MAX_FLIGHT:
        return False
    try:
        _check_message(_Reader(memoryview(_join_records(_Reader(memoryview(data))))))
    except _MalformedError:
        return False
    return True


class Offer:
    """Reads what a ClientHello offers by ALPN while it arrives; each record is read once."""

    __slots__ = ("_at", "_message")

    def __init__(self) -> None:
        self._at = 0  # where the next record begins
        self._message = b""

    def read(self, data: bytes) -> tuple[bytes, ...] | None:
        """The protocols that a ClientHello offers; None while it is incomplete.

        ``data`` is all that has come so far. Empty when it offers none, or is no ClientHello.
        """
        try:
            while not self._is_whole():
                head = data[self._at : self._at + _RECORD_HEAD]
                if len(head) < _RECORD_HEAD:
                    return None
                size = int.from_bytes(head[3:])
                _demand(head[:2] == _HANDSHAKE and 0 < size <= MAX_FRAGMENT)
                if len(data) < self._at + _RECORD_HEAD + size:
                    return None
                self._at += _RECORD_HEAD + size
                self._message += data[self._at - size : self._at]
            return _protocols(_Reader(memoryview(self._message)))
        except _MalformedError:
            return ()

    def _is_whole(self) -> bool:
        _demand(self._message[:1] in {b"", bytes((CLIENT_HELLO,))})
        size = int.from_bytes(self._message[1:_MESSAGE_HEAD])
        return len(self._message) >= _MESSAGE_HEAD + size


def _protocols(reader: _Reader) -> tuple[bytes, ...]:
    _demand(reader.number(1) == CLIENT_HELLO)
    body = _Reader(reader.vector(3, 0, 0xFFFFFF))
    body.take(2 + 32)  # version, random
    for size in (1, 2, 1):  # session id, cipher suites, compression methods
        body.vector(size, 0, 0xFFFE)
    extensions = _Reader(body.vector(2, 0, 0xFFFF))
    while extensions.left:
        kind, value = extensions.number(2), extensions.vector(2, 0, 0xFFFF)
        if kind == ALPN:
            names = _Reader(_Reader(value).vector(2, 2, 0xFFFF))
            found = []
            while names.left:
                found.append(bytes(names.vector(1, 1, 0xFF)))
            return tuple(found)
    return ()


def _demand(condition: bool) -> None:  # noqa: FBT001 - reads like an assertion
    if not condition:
        raise _MalformedError


def _join_records(reader: _Reader) -> bytes:
    """The handshake bytes of all records; none of them is empty (RFC 8446 §5.1)."""
    fragments = []
    while reader.left:
        _demand(reader.number(1) == HANDSHAKE_RECORD)
        _demand(reader.number(1) == _TLS_MAJOR)
        reader.take(1)  # the minor version has no meaning (RFC 8446 §5.1)
        fragments.append(reader.vector(2, 1, MAX_FRAGMENT))
    return b"".join(fragments)


def _check_message(reader: _Reader) -> None:
    _demand(reader.number(1) == CLIENT_HELLO)
    body = _Reader(reader.vector(3, 0, MAX_FLIGHT))
    reader.end()
    _demand(body.number(1) == _TLS_MAJOR)
    body.take(1 + 32)  # minor version, random
    body.vector(1, 0, 32)  # session id
    _demand(len(body.vector(2, 2, 0xFFFE)) % 2 == 0)  # cipher suites
    body.vector(1, 1, 0xFF)  # compression methods
    if body.left:  # before TLS 1.3 the extensions may be missing
        _check_extensions(_Reader(body.vector(2, 0, 0xFFFF)))
    body.end()


def _check_extensions(extensions: _Reader) -> None:
    while extensions.left:
        _demand(extensions.number(2) != EARLY_DATA)
        extensions.vector(2, 0, 0xFFFF)
