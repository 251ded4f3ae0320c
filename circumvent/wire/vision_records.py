"""Where the records of an inner TLS begin: Vision's padding ends with whole ones."""

from __future__ import annotations

from circumvent.wire.vision_filter import whole_data

_HEADER = 5
_TYPES = range(20, 25)  # of records
_MAJOR = 3  # of the version of every TLS
_NEVER = 1 << 62  # bytes until the next record, where there is no TLS


class InnerRecords:
    """Cuts what is written so that whole records of application data stand alone."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""  # of a record that came in part
        self._left = 0  # bytes of a record that are still to come

    def take(self, data: memoryview) -> int:
        """How much of ``data`` to send in one write; that much counts as sent."""
        is_inside = bool(self._left or self._head)
        whole = 0 if is_inside else whole_data(data)
        if whole:
            return whole
        at = 0
        while at < len(data):
            at += self._pass_by(data[at:])
            if is_inside and not (self._left or self._head) and whole_data(data[at:]):
                break
        return at

    def _pass_by(self, data: memoryview) -> int:
        """The size of what comes next: of a header, or of what it announced."""
        if self._left:
            size = min(self._left, len(data))
            self._left -= size
            return size
        size = min(_HEADER - len(self._head), len(data))
        self._head += bytes(data[:size])
        if len(self._head) == _HEADER:
            is_tls = self._head[0] in _TYPES and self._head[1] == _MAJOR
            self._left = int.from_bytes(self._head[3:]) if is_tls else _NEVER
            self._head = b""
        return size
