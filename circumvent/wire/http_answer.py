"""One request that opens a stream, and the head of its answer; sans I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from circumvent.errors import ProtocolError

MAX_HEAD = 16 * 1024  # what browsers and servers allow a head to have, about
SWITCHING, OK = 101, 200


class AnswerReader(ABC):
    """Collects the head of an answer; ``what`` it opens is named in errors."""

    what: str

    def __init__(self) -> None:
        from circumvent.wire.http_heads import parse_answer  # noqa: PLC0415 - for few

        self._parse = parse_answer
        self._received = b""

    @property
    def began(self) -> bool:
        """Whether any byte of the answer came."""
        return bool(self._received)

    def receive(self, data: bytes) -> bytes | None:
        """The bytes that follow the head, once that is complete; None before.

        Raises ProtocolError when the server refuses, or speaks no HTTP.
        """
        if not data:
            raise self.refused("the server closed the connection")
        self._received += data
        try:
            found = self._parse(self._received)
        except ProtocolError as error:
            raise self.refused("the answer is not HTTP") from error
        if found is None:
            if len(self._received) > MAX_HEAD:
                raise self.refused("the answer is not HTTP")
            return None
        answer, end = found
        self.check(answer.status, {name.lower(): value for name, value in answer.headers})
        return self._received[end:]

    @abstractmethod
    def check(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        """Raise ProtocolError when it is not the answer that opens a stream.

        The names of ``headers`` are in lower case.
        """

    def refused(self, why: str) -> ProtocolError:
        """The error."""
        return ProtocolError(f"no {self.what}: {why}", stage=self.what.lower())


class HttpUpgrade(AnswerReader):
    """The stream is bare from the answer on: an upgrade that only looks like a WebSocket's."""

    what = "HTTP upgrade"

    def check(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        if status != SWITCHING:
            raise self.refused(f"the server answered with status {status}")
        if headers.get(b"upgrade", b"").lower() != b"websocket":
            raise self.refused("the server upgrades to something else")


class HttpHeader(AnswerReader):
    """The stream is bare from the answer on, which is that of a page."""

    what = "HTTP header"

    def check(self, status: int, headers: Mapping[bytes, bytes]) -> None:  # noqa: ARG002
        if status != OK:
            raise self.refused(f"the server answered with status {status}")


def format_request(path: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a GET request."""
    from circumvent.wire.http_heads import format_head  # noqa: PLC0415 - for few

    encoded = ((name.encode(), value.encode()) for name, value in headers)
    return format_head(f"GET {path} HTTP/1.1".encode(), encoded)
