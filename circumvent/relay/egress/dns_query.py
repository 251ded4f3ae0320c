"""One DNS query to one nameserver (RFC 1035); ``dnspython`` is the codec."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from circumvent.api import Datagrams
from circumvent.errors import CircumventError
from circumvent.net import udp
from circumvent.wire.address import Destination

if TYPE_CHECKING:
    from dns.message import Message

SHORTEST, LONGEST = 10, 600  # seconds: the bounds of an answer's TTL
NEGATIVE = 15.0  # seconds that the absence of a name is kept
_PAYLOAD = 1232  # RFC 9715: fits every path unfragmented, and 40 addresses fit it


class Answer(NamedTuple):
    """Good for ``seconds``; without addresses it says that there are none."""

    seconds: float
    addresses: tuple[str, ...] = ()


async def query(nameserver: Destination, name: str, kind: str, seconds: float) -> Answer | None:
    """Ask for the records of ``kind`` ("A" or "AAAA"), and wait ``seconds`` for the answer.

    None when no answer came, or a refusal. The query has a socket, and so a port, of its own.
    """
    import dns.exception  # noqa: PLC0415 - 14 MB, on the relay only
    import dns.message  # noqa: PLC0415

    try:
        question = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
        with udp.connect(nameserver.host, nameserver.port) as endpoint:
            endpoint.send(question.to_wire())
            async with asyncio.timeout(seconds):
                return _read(await _receive_answer(question, endpoint, seconds))
    except (CircumventError, TimeoutError, dns.exception.DNSException):
        return None


async def _receive_answer(question: Message, endpoint: Datagrams, seconds: float) -> Message:
    """The answer to ``question``; forged and broken answers are ignored."""
    import dns.exception  # noqa: PLC0415
    import dns.message  # noqa: PLC0415

    while True:
        data = await endpoint.receive(seconds)
        try:
            answer = dns.message.from_wire(data, ignore_trailing=True)
        except (dns.exception.DNSException, ValueError):
            continue
        if question.is_response(answer):
            return answer


def _read(answer: Message) -> Answer | None:
    import dns.message  # noqa: PLC0415
    import dns.rcode  # noqa: PLC0415

    if answer.rcode() == dns.rcode.NXDOMAIN:
        return Answer(NEGATIVE)
    if answer.rcode() != dns.rcode.NOERROR or not isinstance(answer, dns.message.QueryMessage):
        return None
    chain = answer.resolve_chaining()
    if chain.answer is None:
        return Answer(NEGATIVE)
    seconds = min(max(chain.minimum_ttl, SHORTEST), LONGEST)
    return Answer(seconds, tuple(record.address for record in chain.answer))
