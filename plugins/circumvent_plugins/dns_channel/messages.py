"""DNS messages (RFC 1035 §4) that ask for TXT records; ``dnspython`` is the codec."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dns.message import Message

MAX_MESSAGE = 4096  # bytes; the longest manifest is a third of it
UDP_PAYLOAD = 1232  # what no path fragments (DNS Flag Day 2020)
PADDING = 128  # RFC 8467 §4.1; only where questions are encrypted: in clear it would be conspicuous


class AnswerKind(enum.Enum):
    """What an answer says."""

    TEXT = "the records"
    ABSENT = "there are none"
    FAILED = "the resolver could not answer"
    CUT = "ask again over TCP"
    FOREIGN = "records that nobody asked for"


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """An answer about ``name`` (lower case); ``texts`` are the TXT records."""

    id: int
    name: str
    kind: AnswerKind
    texts: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class DnsQuestion:
    """A question, and how it goes on the wire."""

    id: int
    name: str
    wire: bytes


def make_question(name: str, *, padded: bool = False, number: int | None = None) -> DnsQuestion:
    """Ask for the TXT records of ``name``; a random id unless ``number`` is given."""
    from dns.message import make_query  # noqa: PLC0415 - heavy

    query = make_query(
        name, "TXT", use_edns=0, payload=UDP_PAYLOAD, pad=PADDING if padded else 0, id=number
    )
    return DnsQuestion(query.id, name, query.to_wire())


def read_answer(wire: bytes) -> DnsAnswer:
    """Read an answer to a question of ours; raises ValueError when it is none."""
    import dns.message  # noqa: PLC0415 - heavy
    from dns.exception import DNSException  # noqa: PLC0415 - heavy

    try:
        message = dns.message.from_wire(wire[:MAX_MESSAGE])
        return DnsAnswer(message.id, _asked(message), *_said(message))
    except DNSException as error:
        raise ValueError("is no DNS message") from error


def _asked(message: Message) -> str:
    from dns import flags, rdataclass, rdatatype  # noqa: PLC0415 - heavy

    question = message.question[0] if len(message.question) == 1 else None
    wanted = (rdataclass.IN, rdatatype.TXT)
    if (
        question is None
        or not message.flags & flags.QR
        or (question.rdclass, question.rdtype) != wanted
    ):
        raise ValueError("answers no question of ours")
    return question.name.to_text(omit_final_dot=True).lower()


def _said(message: Message) -> tuple[AnswerKind, tuple[bytes, ...]]:
    from dns import flags, rcode, rdatatype  # noqa: PLC0415 - heavy

    if message.flags & flags.TC:
        return AnswerKind.CUT, ()
    texts = tuple(
        b"".join(record.strings)
        for records in message.answer
        if records.rdtype == rdatatype.TXT
        for record in records
    )
    if texts:
        return AnswerKind.TEXT, texts
    if any(records.rdtype in {rdatatype.A, rdatatype.AAAA} for records in message.answer):
        return AnswerKind.FOREIGN, ()
    if message.rcode() in {rcode.NOERROR, rcode.NXDOMAIN}:
        return AnswerKind.ABSENT, ()
    return AnswerKind.FAILED, ()
