"""How a carrier joins a session (docs/session-protocol.md, section 3), sans I/O.

HELLO is the first frame on a carrier, inside its secure channel. The first carrier of a session
brings the session's secret; every further one proves it, bound to its own channel and number, so
no recorded HELLO is good anywhere else.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

from circumvent.errors import ProtocolError
from circumvent.wire.frames import (
    HEADER_SIZE,
    MAX_HELLO,
    SESSION,
    VERSION,
    CloseReason,
    FrameKind,
    pack,
    read_head,
)

ID_SIZE = 16
SECRET_SIZE = 32
PROOF_SIZE = hashlib.sha256().digest_size
_CREATE, _ATTACH = 0, 1
_FIXED = 2 + ID_SIZE + SECRET_SIZE  # version, mode, id, secret or proof
MAX_CREDENTIAL = MAX_HELLO - _FIXED
_WELCOME = struct.Struct(">BI")
_LABEL = b"circumvent session attach v1\0"


@dataclass(frozen=True, slots=True)
class Create:
    """A new session on carrier ``number``; ``credential`` says for whom, in the relay's terms."""

    number: int
    session: bytes
    secret: bytes = field(repr=False)
    credential: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attach:
    """Carrier ``number`` joins a session that exists."""

    number: int
    session: bytes
    proof: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Welcome:
    """The carrier is part of the session; the client may have ``streams`` streams open."""

    streams: int


Hello = Create | Attach


def attach_proof(secret: bytes, session: bytes, number: int, binding: bytes) -> bytes:
    """A proof that only an end of the session can make, for one carrier on one channel."""
    return hmac.digest(secret, _LABEL + session + number.to_bytes(4) + binding, "sha256")


def is_proven(hello: Attach, secret: bytes, binding: bytes) -> bool:
    """Whether ``hello`` was made by an end of the session for this channel."""
    expected = attach_proof(secret, hello.session, hello.number, binding)
    return hmac.compare_digest(hello.proof, expected)


def format_hello(hello: Hello) -> bytes:
    """The frame; ValueError when the credential is too long."""
    if isinstance(hello, Attach):
        mode, rest = _ATTACH, hello.proof
    else:
        mode, rest = _CREATE, hello.secret + hello.credential
    payload = bytes((VERSION, mode)) + hello.session + rest
    if len(payload) > MAX_HELLO:
        raise ValueError(f"a credential has at most {MAX_CREDENTIAL} bytes")
    return pack(FrameKind.HELLO, hello.number, 0, payload)


def format_welcome(welcome: Welcome) -> bytes:
    """The answer that lets a carrier in."""
    return pack(FrameKind.WELCOME, SESSION, 0, _WELCOME.pack(VERSION, welcome.streams))


def format_refusal(reason: CloseReason) -> bytes:
    """The answer that keeps a carrier out, and why."""
    return pack(FrameKind.CLOSE, SESSION, 0, bytes((reason,)))


def parse_hello(data: bytes) -> tuple[Hello, int] | None:
    """A HELLO at the start of ``data`` and its length; None when more bytes are needed.

    Raises ProtocolError.
    """
    payload, number, end = _first_frame(data, (FrameKind.HELLO,))
    if payload is None:
        return None
    if payload[0] != VERSION:
        raise ProtocolError("session: another version of the protocol", stage="hello")
    session, rest = payload[2 : 2 + ID_SIZE], payload[2 + ID_SIZE :]
    mode = payload[1] if len(payload) >= _FIXED else -1
    if not number or mode not in (_CREATE, _ATTACH):
        raise ProtocolError("session: a malformed HELLO", stage="hello")
    if mode == _ATTACH:
        if len(rest) != PROOF_SIZE:
            raise ProtocolError("session: a malformed HELLO", stage="hello")
        return Attach(number, session, rest), end
    return Create(number, session, rest[:SECRET_SIZE], rest[SECRET_SIZE:]), end


def parse_answer(data: bytes) -> tuple[Welcome | CloseReason, int] | None:
    """The relay's answer at the start of ``data``, as ``parse_hello``."""
    payload, _, end = _first_frame(data, (FrameKind.WELCOME, FrameKind.CLOSE))
    if payload is None:
        return None
    if data[0] == FrameKind.CLOSE:
        known = payload[0] in CloseReason.__members__.values()
        return (CloseReason(payload[0]) if known else CloseReason.REFUSED), end
    if len(payload) != _WELCOME.size or payload[0] != VERSION:
        raise ProtocolError("session: a malformed WELCOME", stage="hello")
    return Welcome(_WELCOME.unpack(payload)[1]), end


def _first_frame(data: bytes, kinds: tuple[FrameKind, ...]) -> tuple[bytes | None, int, int]:
    """Payload (None when more is needed), stream field and end of the frame."""
    if data and data[0] not in kinds:
        raise ProtocolError("session: not a bonded session", stage="hello")
    if len(data) < HEADER_SIZE:
        return None, 0, 0
    head = read_head(data)
    if head.offset:
        raise ProtocolError("session: a malformed handshake", stage="hello")
    if len(data) < head.end:
        return None, 0, 0
    return data[HEADER_SIZE : head.end], head.stream, head.end
