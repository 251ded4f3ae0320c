"""Records while hands are shaken: messages out of them, and messages into them (RFC 8446 §5.1)."""

from __future__ import annotations

from circumvent.wire.tls13.codes import (
    FIRST_RECORD_VERSION,
    MAX_PLAINTEXT,
    MESSAGE_HEADER,
    RECORD_HEADER,
    TLS12,
    Alert,
    Content,
)
from circumvent.wire.tls13.faults import Fault, alert_bytes, refused
from circumvent.wire.tls13.messages import MAX_MESSAGE
from circumvent.wire.tls13.records import Opener, Sealer, plain_record, record_size

# RFC 8446 §5: a peer may send these for old middleboxes, once; more are no handshake.
MAX_IGNORED = 8
_CHANGE_CIPHER_SPEC = b"\x01"
_ALERT_SIZE = 2


class HandshakeRecords:
    """The records of both directions; ``opener`` and ``sealer`` are None before there are keys."""

    __slots__ = ("_came", "_has_changed", "_ignored", "_messages", "opener", "sealer")

    def __init__(self) -> None:
        self.opener: Opener | None = None
        self.sealer: Sealer | None = None
        self._came = b""
        self._messages = b""
        self._ignored = 0
        self._has_changed = False

    def feed(self, data: bytes) -> None:
        """What the peer sent."""
        self._came += data

    def next_message(self) -> bytes | None:
        """The next whole message with its header; None while more is to come.

        Raises Fault, and HandshakeError for an alert of the peer.
        """
        while True:
            message = self._take_message()
            if message is not None:
                return message
            record = self._take_record()
            if record is None:
                return None
            self._read(record)

    def _take_message(self) -> bytes | None:
        if len(self._messages) < MESSAGE_HEADER:
            return None
        size = MESSAGE_HEADER + int.from_bytes(self._messages[1:MESSAGE_HEADER])
        if size > MESSAGE_HEADER + MAX_MESSAGE:
            raise Fault(Alert.ILLEGAL_PARAMETER, f"the server announced a message of {size} bytes")
        if len(self._messages) < size:
            return None
        message, self._messages = self._messages[:size], self._messages[size:]
        return message

    def _take_record(self) -> bytes | None:
        if len(self._came) < RECORD_HEADER:
            return None
        size = record_size(self._came[:RECORD_HEADER])
        if len(self._came) < size:
            return None
        record, self._came = self._came[:size], self._came[size:]
        return record

    def _read(self, record: bytes) -> None:
        content, data = record[0], record[RECORD_HEADER:]
        if content == Content.CHANGE_CIPHER_SPEC:
            self._ignore(data)
            return
        if self.opener is not None and content != Content.ALERT:  # it may have failed before keys
            content, data = self._open(self.opener, record)
        if content == Content.ALERT and len(data) == _ALERT_SIZE and not self._messages:
            raise refused(data[1])
        if content != Content.HANDSHAKE or not data:
            raise Fault(Alert.UNEXPECTED_MESSAGE, "the server sent something else than a handshake")
        if len(data) > MAX_PLAINTEXT:
            raise Fault(Alert.RECORD_OVERFLOW, f"the server sent a record of {len(data)} bytes")
        self._messages += data

    def _open(self, opener: Opener, record: bytes) -> tuple[int, bytes]:
        if record[0] != Content.DATA:
            raise Fault(Alert.UNEXPECTED_MESSAGE, "the server sent a record without encryption")
        plain = memoryview(bytearray(len(record)))
        content, size = opener.open(memoryview(record), plain)
        return content, bytes(plain[:size])

    def _ignore(self, data: bytes) -> None:
        self._ignored += 1
        if data != _CHANGE_CIPHER_SPEC or self._ignored > MAX_IGNORED:
            raise Fault(Alert.UNEXPECTED_MESSAGE, "the server sent a record that has no place here")

    def check_boundary(self) -> None:
        """Keys change, so nothing may be left under the old ones (RFC 8446 §5.1)."""
        if self._messages:
            raise Fault(Alert.UNEXPECTED_MESSAGE, "the server said too much under an old key")

    def take_leftover(self) -> bytes:
        """The records behind the handshake, not opened."""
        left, self._came = self._came, b""
        return left

    def wrap(self, content: Content, data: bytes) -> bytes:
        """Records around our own words."""
        if self.sealer is not None:
            return self.sealer.seal(content, data)
        return plain_record(content, data)

    def change_cipher_spec(self) -> bytes:
        """A record that means nothing, once, for old middleboxes (RFC 8446 §D.4)."""
        if self._has_changed:
            return b""
        self._has_changed = True
        return plain_record(Content.CHANGE_CIPHER_SPEC, _CHANGE_CIPHER_SPEC)

    def wrap_alert(self, alert: Alert) -> bytes:
        """An alert in its record."""
        return self.wrap(Content.ALERT, alert_bytes(alert))


def wrap_hello(message: bytes, *, is_first: bool) -> bytes:
    """A ClientHello; the first one says an old version, as browsers do (RFC 8446 §5.1)."""
    version = FIRST_RECORD_VERSION if is_first else TLS12
    return plain_record(Content.HANDSHAKE, message, version)
