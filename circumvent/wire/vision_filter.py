"""Watches whether a stream carries TLS 1.3, whose records need no second encryption (Vision).

Only the first pieces of both directions are looked at.
"""

from __future__ import annotations

PIECES = 8  # of both directions together, then all that counts was said
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_HANDSHAKE, _DATA = b"\x16\x03", b"\x17\x03\x03"
_RECORD_HEADER = 5
_TLS12 = 3  # the minor version in a record's header
_SESSION_ID_AT = 43  # its length, in the record of a ServerHello
_LEAST_HELLO = 79  # with a session id, and some extensions behind the cipher suite
_TLS13 = bytes.fromhex("002b00020304")  # supported_versions: the server chose TLS 1.3
# TLS_AES_128_CCM_8_SHA256 is missing: its tag is shorter, so its records differ.
_SUITES = frozenset((0x1301, 0x1302, 0x1303, 0x1304))


class TlsFilter:
    """What was seen: ``is_tls`` a hello, ``is_tls12`` a server's hello, ``is_tls13`` its choice."""

    __slots__ = ("_hello_left", "_suite", "is_tls", "is_tls12", "is_tls13", "pieces_left")

    def __init__(self) -> None:
        self.is_tls = self.is_tls12 = self.is_tls13 = False
        self.pieces_left = PIECES
        self._hello_left = 0  # bytes of the server's hello that are still to come
        self._suite = 0

    def look(self, piece: memoryview) -> None:
        """The next piece of either direction, at most 8 KiB of payload."""
        if not self.pieces_left:
            return
        self.pieces_left -= 1
        head = bytes(piece[: _RECORD_HEADER + 1])
        if len(head) > _RECORD_HEADER and head.startswith(_HANDSHAKE):
            self._look_at_handshake(piece, head)
        if self._hello_left:
            self._look_at_hello(piece)

    def _look_at_handshake(self, piece: memoryview, head: bytes) -> None:
        kind = head[_RECORD_HEADER]
        if kind == _CLIENT_HELLO:
            self.is_tls = True
        elif kind == _SERVER_HELLO and head[2] == _TLS12:
            self.is_tls = self.is_tls12 = True
            self._hello_left = _RECORD_HEADER + int.from_bytes(head[3:_RECORD_HEADER])
            if min(len(piece), self._hello_left) >= _LEAST_HELLO:
                at = _SESSION_ID_AT + 1 + piece[_SESSION_ID_AT]
                self._suite = int.from_bytes(piece[at : at + 2])

    def _look_at_hello(self, piece: memoryview) -> None:
        hello = bytes(piece[: self._hello_left])
        self._hello_left -= len(hello)
        if _TLS13 in hello:
            self.is_tls13 = self._suite in _SUITES
            self._hello_left = self.pieces_left = 0
        elif not self._hello_left:  # TLS 1.2
            self.pieces_left = 0


def whole_data(data: memoryview) -> int:
    """The size of the whole records of application data at the front of ``data``."""
    at = end = 0
    while end <= len(data):
        at = end
        head = data[at : at + _RECORD_HEADER]
        if len(head) < _RECORD_HEADER or head[:3] != _DATA:
            break
        end = at + _RECORD_HEADER + int.from_bytes(head[3:])
    return at


def last_data(piece: memoryview) -> int:
    """Where the last record of application data seems to begin; -1 where none does."""
    return bytes(piece).rfind(_DATA)
