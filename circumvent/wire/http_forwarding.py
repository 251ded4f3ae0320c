"""How a proxy passes on the heads of one request and its answers (RFC 9110 §7); sans I/O."""

from __future__ import annotations

from circumvent.errors import ProtocolError
from circumvent.wire.http_bodies import ANSWER, Chunked, UntilClose
from circumvent.wire.http_heads import (
    SWITCHING_PROTOCOLS,
    Headers,
    HttpRequest,
    HttpResponse,
    format_head,
    may_be_over,
    parse_answer,
)
from circumvent.wire.http_proxy import Target, end_to_end, upgrade_of, wants_close, without

MAX_ANSWER_HEAD = 256 * 1024  # what Chromium takes, and more than curl does

_CLOSE = (b"Connection", b"close")


class ForwardedHeads:
    """What the origin shall see of a request's head, and the client of the answers' heads.

    ``keeps_alive``: whether the client may send another request on its connection.
    """

    __slots__ = ("_is_head", "_is_old", "_upgrades", "keeps_alive")

    def __init__(self, request: HttpRequest) -> None:
        self._is_head = request.method == b"HEAD"
        self._is_old = request.is_old
        self._upgrades = bool(upgrade_of(request.headers))
        self.keeps_alive = not (request.is_old or wants_close(request.headers))

    def take_answers(
        self, view: memoryview, known: int, *, is_closing: bool
    ) -> tuple[bytes, int, HttpResponse | None]:
        """Read the heads at the start of ``view``, up to the final one.

        Returns what the client shall see of them, where they end, and the final answer, None while
        it is incomplete. No head ends in the first ``known`` bytes: a server that sends a long one
        byte by byte must not cost all our time. ``is_closing``: this is the connection's last
        request. Raises ProtocolError.
        """
        heads, at = b"", 0
        is_new = may_be_over(view, known)
        while is_new and (found := parse_answer(view[at:], to_head=self._is_head)):
            answer, length = found
            at += length
            if not answer.is_final:
                heads += b"" if self._is_old else _informational(answer)
            elif answer.status != SWITCHING_PROTOCOLS:
                return heads + self._final(answer, is_closing=is_closing), at, answer
            elif self._upgrades:
                self.keeps_alive = False
                return heads + _informational(answer), at, answer
            else:
                raise bad_answer("it changes to a protocol that nobody asked for")
        if len(view) - at > MAX_ANSWER_HEAD:
            raise bad_answer(f"its head has more than {MAX_ANSWER_HEAD // 1024} KiB")
        return heads, at, None

    def _final(self, answer: HttpResponse, *, is_closing: bool) -> bytes:
        headers = end_to_end(answer.headers)
        if self._is_old and isinstance(answer.body, Chunked):  # HTTP/1.0 has no chunks
            answer.body.unwraps = True
            headers = without(headers, b"transfer-encoding")
        if is_closing or isinstance(answer.body, UntilClose):
            self.keeps_alive = False
        return _format(answer, headers if self.keeps_alive else [*headers, _CLOSE])


def request_head(request: HttpRequest, target: Target) -> bytes:
    """The head as the origin shall see it; Host follows the target (RFC 9112 §3.2.2)."""
    headers = without(end_to_end(request.headers), b"host")
    connection = upgrade_of(request.headers) or [_CLOSE]
    return format_head(
        b"%b %b HTTP/1.1" % (request.method, target.origin_form),
        [(b"Host", target.authority), *headers, *connection],
    )


def bad_answer(what: str) -> ProtocolError:
    """The error that says that ``what`` an origin sent is not HTTP."""
    return ProtocolError(f"the destination's answer is not proper HTTP: {what}", stage=ANSWER)


def _informational(answer: HttpResponse) -> bytes:
    switch = upgrade_of(answer.headers) if answer.status == SWITCHING_PROTOCOLS else []
    return _format(answer, [*end_to_end(answer.headers), *switch])


def _format(answer: HttpResponse, headers: Headers) -> bytes:
    return format_head(b"HTTP/1.1 %d %b" % (answer.status, answer.reason), headers)
