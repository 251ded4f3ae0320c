"""Takes fields out of a message, and puts vectors into one (RFC 8446 §3)."""

from __future__ import annotations

from collections.abc import Iterator

from circumvent.wire.tls13.codes import Alert
from circumvent.wire.tls13.faults import Fault


class Reader:
    """Takes fields from the front of ``data``; raises Fault when they are not there."""

    __slots__ = ("_left", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._left = data
        self._what = what

    def __bool__(self) -> bool:
        return bool(self._left)

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if count > len(self._left):
            raise self.malformed()
        piece, self._left = self._left[:count], self._left[count:]
        return piece

    def number(self, size: int) -> int:
        """The next number, of ``size`` bytes."""
        return int.from_bytes(self.take(size))

    def vector(self, size: int, at_least: int = 0) -> bytes:
        """A body of at least ``at_least`` bytes, behind a length of ``size`` bytes."""
        body = self.take(self.number(size))
        if len(body) < at_least:
            raise self.malformed()
        return body

    def inside(self, size: int) -> Reader:
        """As ``vector``, to be read in turn."""
        return Reader(self.vector(size), self._what)

    def numbers(self, size: int) -> Iterator[int]:
        """All that is left, as numbers of ``size`` bytes."""
        while self:
            yield self.number(size)

    def end(self) -> None:
        """Nothing may follow."""
        if self._left:
            raise self.malformed()

    def malformed(self) -> Fault:
        """What to raise when a field is not as it should be."""
        return Fault(Alert.DECODE_ERROR, f"the server's {self._what} is malformed")


def u8(number: int) -> bytes:
    """One byte."""
    return bytes((number,))


def u16(number: int) -> bytes:
    """Two bytes."""
    return number.to_bytes(2)


def vector8(body: bytes) -> bytes:
    """``body`` behind a length of one byte."""
    return bytes((len(body),)) + body


def vector16(body: bytes) -> bytes:
    """``body`` behind a length of two bytes."""
    return len(body).to_bytes(2) + body


def vector24(body: bytes) -> bytes:
    """``body`` behind a length of three bytes."""
    return len(body).to_bytes(3) + body


def u16s(numbers: tuple[int, ...]) -> bytes:
    """Each number as two bytes."""
    return b"".join(number.to_bytes(2) for number in numbers)
