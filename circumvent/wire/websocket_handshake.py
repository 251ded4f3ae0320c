"""The opening handshake of a WebSocket (RFC 6455 §4); sans I/O."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence

from circumvent.errors import ProtocolError
from circumvent.wire.http_answer import SWITCHING, AnswerReader, format_request

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_KEY_BYTES = 16

PROTOCOL = "Sec-WebSocket-Protocol"

Headers = Sequence[tuple[str, str]]


def new_key() -> str:
    """A fresh Sec-WebSocket-Key."""
    return base64.b64encode(os.urandom(_KEY_BYTES)).decode()


def accept_value(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers ``key`` (RFC 6455 §4.2.2)."""
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest)


def request_headers(host: str, key: str, more: Headers) -> list[tuple[str, str]]:
    """The request's headers in the order of Chrome, which puts ``more`` in four places.

    Extensions are not offered: a server that accepts one would change the frames.
    """
    early = [header for header in more if header[0] == "User-Agent"]
    origin = [header for header in more if header[0] == "Origin"]
    protocol = [header for header in more if header[0] == PROTOCOL]
    return [
        ("Host", host),
        ("Connection", "Upgrade"),
        ("Pragma", "no-cache"),
        ("Cache-Control", "no-cache"),
        *early,
        ("Upgrade", "websocket"),
        *origin,
        ("Sec-WebSocket-Version", "13"),
        *(header for header in more if header not in (*early, *origin, *protocol)),
        ("Sec-WebSocket-Key", key),
        *protocol,
    ]


class ClientUpgrade(AnswerReader):
    """The client's side; ``request`` is what to send."""

    what = "WebSocket"

    def __init__(self, host: str, path: str, more: Headers = ()) -> None:
        super().__init__()
        key = new_key()
        self._accept = accept_value(key.encode())
        self.request = format_request(path, request_headers(host, key, more))

    def check(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        """Raises ProtocolError when it is not the answer to ``request``."""
        if status != SWITCHING:
            raise self.refused(f"the server answered with status {status}")
        upgraded = headers.get(b"upgrade", b"").lower() == b"websocket"
        if not upgraded or headers.get(b"sec-websocket-accept") != self._accept:
            raise self.refused("the server's answer belongs to another request")
        if b"sec-websocket-extensions" in headers:
            raise self.refused("the server insists on an extension")


def upgrade_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The key of a request that asks for a WebSocket, header names in any case.

    Raises ProtocolError when it asks for something else (RFC 6455 §4.2.1).
    """
    known = {name.lower(): value.strip() for name, value in headers}
    options = [option.strip() for option in known.get(b"connection", b"").lower().split(b",")]
    if known.get(b"upgrade", b"").lower() != b"websocket" or b"upgrade" not in options:
        raise _refused("the request does not ask for one")
    if known.get(b"sec-websocket-version") != b"13":
        raise _refused("the request asks for another version")
    key = known.get(b"sec-websocket-key", b"")
    if not _is_key(key):
        raise _refused("the request has no key")
    return key


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except ValueError:
        return False


def upgrade_answer(key: bytes) -> bytes:
    """The whole head that accepts a request with ``key``, as nginx writes it."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_value(key) + b"\r\n\r\n"
    )


def _refused(why: str) -> ProtocolError:
    return ProtocolError(f"no WebSocket: {why}", stage="websocket")
