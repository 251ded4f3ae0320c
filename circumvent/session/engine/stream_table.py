"""The streams of a session by number. The client's are odd, the relay's even (RFC 9000 §2.1)."""

from __future__ import annotations

from collections.abc import Iterator

from circumvent.errors import ProtocolError
from circumvent.session.engine.limits import FIRST_WINDOW
from circumvent.session.engine.stream import EngineStream

_HARD = 2  # times the limit: closes may still be on their way when the peer opens the next


class StreamTable:
    """Finds streams by number. ``limit``: how many that the peer opened may be open."""

    __slots__ = ("_by_number", "_highest", "_next", "_parity", "limit", "theirs")

    def __init__(self, limit: int, *, is_client: bool) -> None:
        self.limit = limit
        self.theirs = 0
        self._parity = self._next = 1 if is_client else 2
        self._highest = 0 if is_client else -1
        self._by_number: dict[int, EngineStream] = {}

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[EngineStream]:
        return iter(tuple(self._by_number.values()))

    def open(self, window: int) -> EngineStream:
        """A new stream that we open, on which the peer may send ``window`` bytes at once."""
        stream = EngineStream(self._next, FIRST_WINDOW, window)
        stream.is_open = True
        self._next += 2
        self._by_number[stream.number] = stream
        return stream

    def find(self, number: int) -> EngineStream | None:
        """The stream, None if it is over. Raises ProtocolError when there cannot be one.

        Frames on different carriers overtake each other: so a new number of the peer's opens all
        lower ones as well.
        """
        stream = self._by_number.get(number)
        if stream is not None:
            return stream
        if number % 2 == self._parity % 2:
            if number >= self._next:
                raise ProtocolError(
                    "session: a frame for a stream that we never opened", stage="frame"
                )
            return None
        return self._open_theirs(number) if number > self._highest else None

    def _open_theirs(self, number: int) -> EngineStream:
        count = (number - self._highest) // 2
        if self.theirs + count > _HARD * self.limit:
            raise ProtocolError("session: too many streams", stage="frame")
        for each in range(self._highest + 2, number + 1, 2):
            self._by_number[each] = EngineStream(each, 0, FIRST_WINDOW)
        self.theirs += count
        self._highest = number
        return self._by_number[number]

    def retire(self, stream: EngineStream) -> None:
        """Forget a stream that is over."""
        if self._by_number.pop(stream.number, None) is not None:
            self.theirs -= stream.number % 2 != self._parity % 2
