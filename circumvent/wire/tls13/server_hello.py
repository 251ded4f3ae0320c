"""Reads a server's first answer (RFC 8446 §4.1.3, §4.1.4); raises Fault."""

from __future__ import annotations

from dataclasses import dataclass

from circumvent.wire.tls13.codes import (
    DOWNGRADES,
    MESSAGE_HEADER,
    RETRY_RANDOM,
    TLS12,
    TLS13,
    Alert,
    Extension,
)
from circumvent.wire.tls13.faults import Fault
from circumvent.wire.tls13.reader import Reader
from circumvent.wire.tls13.suites import SUITES, Suite

_WHAT = "greeting"
_RANDOM_SIZE = 32
_ANSWERS = {Extension.VERSIONS, Extension.KEY_SHARE, Extension.PRE_SHARED_KEY}
_RETRY_ANSWERS = {Extension.VERSIONS, Extension.KEY_SHARE, Extension.COOKIE, Extension.ECH}

Extensions = dict[int, bytes]


@dataclass(frozen=True, slots=True)
class ServerHello:
    """A ServerHello or a HelloRetryRequest.

    ``group`` is 0 and ``psk`` None where the server said nothing of them. ``cookie`` and ``ech``
    are only in a HelloRetryRequest.
    """

    is_retry: bool
    random: bytes
    suite: Suite
    group: int
    share: bytes
    psk: int | None
    cookie: bytes
    ech: bytes


def read_server_hello(message: bytes, session_id: bytes) -> ServerHello:
    """``message`` has its header; ``session_id`` is ours, which must be echoed."""
    reader = Reader(message[MESSAGE_HEADER:], _WHAT)
    version, random = reader.number(2), reader.take(_RANDOM_SIZE)
    echo, code, compression = reader.vector(1), reader.number(2), reader.number(1)
    extensions = read_extensions(reader.inside(2)) if reader else {}
    reader.end()
    is_retry = random == RETRY_RANDOM
    _check_version(version, random, extensions)
    check_allowed(extensions, _RETRY_ANSWERS if is_retry else _ANSWERS)
    if echo != session_id or compression:
        raise Fault(Alert.ILLEGAL_PARAMETER, "the server's greeting does not answer ours")
    group, share = _read_share(extensions, is_retry=is_retry)
    return ServerHello(
        is_retry=is_retry,
        random=random,
        suite=_find_suite(code),
        group=group,
        share=share,
        psk=_read_psk(extensions),
        cookie=_read_cookie(extensions),
        ech=extensions.get(Extension.ECH, b""),
    )


def read_extensions(reader: Reader) -> Extensions:
    """All of them; none may come twice."""
    found: Extensions = {}
    while reader:
        code, body = reader.number(2), reader.vector(2)
        if code in found:
            raise reader.malformed()
        found[code] = body
    return found


def check_allowed(extensions: Extensions, allowed: set[Extension] | set[int]) -> None:
    """A server answers only what it was asked (RFC 8446 §4.2)."""
    for code in extensions:
        if code not in allowed:
            raise Fault(
                Alert.UNSUPPORTED_EXTENSION,
                f"the server answered an extension that we did not send ({code:#06x})",
            )


def _check_version(version: int, random: bytes, extensions: Extensions) -> None:
    chosen = extensions.get(Extension.VERSIONS)
    if version == TLS12 and chosen == TLS13.to_bytes(2):
        return
    if random.endswith(DOWNGRADES):
        raise Fault(
            Alert.ILLEGAL_PARAMETER,
            "somebody between us and the server took TLS 1.3 out of the greeting "
            "or the server did not see that we speak it",
        )
    raise Fault(Alert.PROTOCOL_VERSION, "the server speaks no TLS 1.3")


def _find_suite(code: int) -> Suite:
    suite = SUITES.get(code)
    if suite is None:
        raise Fault(Alert.ILLEGAL_PARAMETER, "the server chose a cipher that we did not offer")
    return suite


def _read_share(extensions: Extensions, *, is_retry: bool) -> tuple[int, bytes]:
    """A retry names only the group; no key share at all is possible with a ticket."""
    body = extensions.get(Extension.KEY_SHARE)
    if body is None:
        return 0, b""
    reader = Reader(body, _WHAT)
    group = reader.number(2)
    share = b"" if is_retry else reader.vector(2, at_least=1)
    reader.end()
    return group, share


def _read_psk(extensions: Extensions) -> int | None:
    body = extensions.get(Extension.PRE_SHARED_KEY)
    if body is None:
        return None
    reader = Reader(body, _WHAT)
    chosen = reader.number(2)
    reader.end()
    return chosen


def _read_cookie(extensions: Extensions) -> bytes:
    body = extensions.get(Extension.COOKIE)
    if body is None:
        return b""
    reader = Reader(body, _WHAT)
    cookie = reader.vector(2, at_least=1)
    reader.end()
    return cookie
