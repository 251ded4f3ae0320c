"""Ask one resolver many questions at once, over UDP, TCP, TLS or HTTPS.

Answers come in any order, and over UDP more than one to a question: a forger on the path can be
faster than the resolver. So the socket stays open until the caller has what it wants, or for as
long as the real answer may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from circumvent.api import (
    Account,
    ByteStream,
    Datagrams,
    Dialer,
    ProtocolError,
    RemoteError,
    StreamResetError,
    TlsOptions,
    UnsupportedError,
)
from circumvent.api.layer import Dial
from circumvent.http.client import http_client, limited_body, web_tls
from circumvent.layers.exchange import receive, send
from circumvent.layers.tls.layer import TlsLayer
from circumvent_plugins.dns_channel.messages import (
    MAX_MESSAGE,
    AnswerKind,
    DnsAnswer,
    DnsQuestion,
    make_question,
    read_answer,
)
from circumvent_plugins.dns_channel.source import DnsResolver, DnsTransport
from circumvent_plugins.dns_channel.timings import DnsTimings

if TYPE_CHECKING:
    from aiohttp import ClientSession

MAX_DATAGRAMS = 256  # datagrams; a question that gets more is asked elsewhere
DOH_TYPE = "application/dns-message"
_LENGTH = 2  # RFC 1035 §4.2.2: in front of each message


@dataclass(frozen=True, slots=True)
class Net:
    """The dialer for questions, the account that pays for them, and how long they wait."""

    dialer: Dialer
    account: Account
    timings: DnsTimings


async def ask(
    resolver: DnsResolver, names: Sequence[str], net: Net
) -> AsyncGenerator[DnsAnswer, None]:
    """The answers of ``resolver`` about ``names``; ends when no more are expected.

    Raises DialError, HandshakeError, StreamResetError, ProtocolError. Set a deadline.
    """
    match resolver.way:
        case DnsTransport.UDP:
            answers = _over_udp(resolver, names, net)
        case DnsTransport.TCP | DnsTransport.TLS:
            answers = _over_stream(resolver, names, net)
        case DnsTransport.HTTPS:
            answers = _over_https(resolver, names, net)
    async with aclosing(answers):
        async for answer in answers:
            yield answer


async def _over_udp(
    resolver: DnsResolver, names: Sequence[str], net: Net
) -> AsyncGenerator[DnsAnswer, None]:
    try:
        datagrams = await net.dialer.udp(resolver.host, resolver.port)
    except UnsupportedError:  # through tunnels
        if resolver.is_near:
            raise
        async for answer in _over_stream(resolver, names, net):
            yield answer
        return
    with datagrams:
        async for answer in _receive_answers(datagrams, _questions(names), net.timings):
            if answer.kind is not AnswerKind.CUT:
                yield answer
                continue
            for whole in await _ask_again(resolver, answer.name, net):
                yield whole


async def _receive_answers(
    datagrams: Datagrams, questions: Mapping[int, DnsQuestion], timings: DnsTimings
) -> AsyncGenerator[DnsAnswer, None]:
    clock = asyncio.get_running_loop()
    for question in questions.values():
        datagrams.send(question.wire)
    ends = clock.time() + timings.later_answers
    for _ in range(MAX_DATAGRAMS):
        try:
            data = await datagrams.receive(ends - clock.time())
        except TimeoutError:
            return
        answer = _match(data, questions)
        if answer is not None:
            yield answer


async def _ask_again(resolver: DnsResolver, name: str, net: Net) -> Sequence[DnsAnswer]:
    """Ask over TCP for what fits no datagram; empty when that is blocked: "cut" may be forged."""
    try:
        async with asyncio.timeout(net.timings.later_answers):
            return [answer async for answer in _over_stream(resolver, [name], net)]
    except (RemoteError, TimeoutError):
        return ()


async def _over_stream(
    resolver: DnsResolver, names: Sequence[str], net: Net
) -> AsyncGenerator[DnsAnswer, None]:
    questions = _questions(names, padded=resolver.is_secure)
    dial: Dial = partial(net.dialer.tcp, resolver.host, resolver.port)
    if resolver.is_secure:  # no browser asks this way; a resolver may refuse an ALPN of the web
        dial = TlsLayer(TlsOptions(resolver.name or resolver.host, alpn=())).over(dial)
    stream = await dial()
    try:
        await send(stream, net.account, _framed(questions.values()))
        messages = _messages(stream, net.account)
        while questions:
            answer = _match(await anext(messages), questions)
            if answer is not None:
                del questions[answer.id]
                yield answer
    finally:
        stream.abort()


def _framed(questions: Iterable[DnsQuestion]) -> bytes:
    return b"".join(len(each.wire).to_bytes(_LENGTH) + each.wire for each in questions)


async def _messages(stream: ByteStream, account: Account) -> AsyncGenerator[bytes, None]:
    buffer = b""
    while True:
        end = _LENGTH + int.from_bytes(buffer[:_LENGTH])
        if len(buffer) >= max(end, _LENGTH):
            yield buffer[_LENGTH:end]
            buffer = buffer[end:]
            continue
        piece = await receive(stream, account, MAX_MESSAGE)
        if not piece:
            raise StreamResetError("the resolver closed before it had answered", stage="read")
        buffer += piece


async def _over_https(
    resolver: DnsResolver, names: Sequence[str], net: Net
) -> AsyncGenerator[DnsAnswer, None]:
    host = f"[{resolver.host}]" if ":" in resolver.host else resolver.host
    url = f"https://{host}:{resolver.port}{resolver.path}"
    name = resolver.name or resolver.host
    headers = {"Accept": DOH_TYPE, "Content-Type": DOH_TYPE}
    if resolver.name:
        headers["Host"] = resolver.name
    async with http_client(
        net.dialer, net.account, tls=lambda _: web_tls(name), headers=headers
    ) as session:
        for asked in names:
            question = make_question(asked, padded=True, number=0)  # RFC 8484 §4.1: id 0
            answer = _match(await _post(session, url, question.wire), {0: question})
            if answer is not None:
                yield answer


async def _post(session: ClientSession, url: str, wire: bytes) -> bytes:
    """Raises StreamResetError, ProtocolError besides what the session raises."""
    from aiohttp import ClientError  # noqa: PLC0415 - heavy

    try:
        async with session.post(url, data=wire, allow_redirects=False) as response:
            if response.status != HTTPStatus.OK:
                raise ProtocolError(f"the resolver answers HTTP {response.status}", stage="answer")
            return b"".join([piece async for piece in limited_body(response, MAX_MESSAGE)])
    except ClientError as error:
        raise StreamResetError("the resolver cut the connection", stage="read") from error


def _questions(names: Iterable[str], *, padded: bool = False) -> dict[int, DnsQuestion]:
    """The questions by id; each has an id of its own."""
    questions: dict[int, DnsQuestion] = {}
    for name in names:
        question = make_question(name, padded=padded)
        while question.id in questions:
            question = make_question(name, padded=padded)
        questions[question.id] = question
    return questions


def _match(data: bytes, questions: Mapping[int, DnsQuestion]) -> DnsAnswer | None:
    """The answer in ``data`` if it is to one of ``questions``, by id and by name."""
    if int.from_bytes(data[:2]) not in questions:
        return None
    try:
        answer = read_answer(data)
    except ValueError:
        return None
    return answer if questions[answer.id].name == answer.name else None
