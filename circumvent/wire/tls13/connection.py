"""What is there after the handshake: records in both directions, in the caller's memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from circumvent.errors import CircumventError
from circumvent.wire.tls13.codes import (
    MAX_SEALED,
    MESSAGE_HEADER,
    RECORD_HEADER,
    TAG,
    Alert,
    Content,
    Message,
)
from circumvent.wire.tls13.faults import Fault, alert_bytes, protocol_error, reset
from circumvent.wire.tls13.key_schedule import export, ticket_secret
from circumvent.wire.tls13.messages import NewTicket, read_key_update, read_ticket
from circumvent.wire.tls13.reader import u8, vector24
from circumvent.wire.tls13.records import Opener, Sealer, bad_mac, record_size, strip
from circumvent.wire.tls13.suites import Suite
from circumvent.wire.tls13.tickets import Ticket

# A peer that sends more of these without a byte of data wants to keep us busy. REALITY servers
# imitate the records of their site, whose data is empty, so it cannot be one or two.
MAX_USELESS = 64
MAX_LATE_MESSAGE = 16 * 1024  # bytes; tickets have some hundred
MAX_TICKETS = 4  # that nobody took; OpenSSL sends two, and the last ones are the best
_ORDERLY = (Alert.CLOSE_NOTIFY, Alert.USER_CANCELED)
_ALERT_SIZE = 2
_DATA = int(Content.DATA)  # an enum's member costs more in the loop


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a handshake agreed on. ``alpn`` is empty where the server chose no protocol.

    ``binding`` is what both ends call "tls-unique" (RFC 5929 §3), as OpenSSL has it: the Finished
    message of the client, or of the server where a ticket was used. ``server_key`` is the SHA-256
    of the public key of a server of which nothing else is known, else empty.
    """

    suite: Suite
    alpn: str
    group: int
    is_resumed: bool
    binding: bytes
    exporter: bytes = field(repr=False)
    resumption: bytes = field(repr=False)
    server_key: bytes = b""


class Connection:
    """One connection after its handshake.

    ``outgoing`` is what must be sent before anything that is sealed later (an answer to the peer,
    an alert): take it with ``take_outgoing`` after each call. ``ended``: the peer said goodbye.
    """

    __slots__ = (
        "_broken",
        "_late",
        "_opener",
        "_sealer",
        "_tickets",
        "_useless",
        "ended",
        "outcome",
        "outgoing",
    )

    def __init__(self, outcome: Outcome, opener: Opener, sealer: Sealer) -> None:
        self.outcome = outcome
        self.outgoing = b""
        self.ended = False
        self._opener, self._sealer = opener, sealer
        self._late = b""  # of a message after the handshake that came in part
        self._useless = 0  # records without data, one after the other
        self._tickets: list[NewTicket] = []
        self._broken: CircumventError | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be opened: the peer ended, or ``open`` raises what broke."""
        return self.ended or self._broken is not None

    @property
    def has_tickets(self) -> bool:
        """Whether ``take_tickets`` has something to give."""
        return bool(self._tickets)

    @property
    def limit(self) -> int:
        """Bytes of data in one record of ours."""
        return self._sealer.limit

    # --- in -------------------------------------------------------------------------------------

    def open(self, wire: memoryview, plain: memoryview, most: int = MAX_SEALED) -> tuple[int, int]:
        """Open whole records at the front of ``wire``, at most ``most``.

        Returns the bytes of ``wire`` that were used, and the bytes of data now in ``plain``.
        ``plain`` may start in the same memory at least ``MAX_RECORD`` bytes in front of ``wire``;
        it stops where a record might not fit. Raises ProtocolError and StreamResetError, but
        first returns what came before. After the peer's goodbye nothing counts.
        """
        if self._broken is not None:
            raise self._broken
        at = used = 0
        try:
            while most and not self.ended and self._is_whole(wire[at:], len(plain) - used):
                size, got, inner, most = self._opener.open_data(wire[at:], plain[used:], most)
                if got or inner:
                    got = self._take(plain[used:], got, inner)
                at, used = at + size, used + got
        except (Fault, CircumventError) as error:
            self._broken = self._explain(error)
            if not used:
                raise self._broken from None
        return (len(wire) if self.ended else at), used

    @staticmethod
    def _is_whole(wire: memoryview, room: int) -> bool:
        """Whether a whole record is there, and room to open it."""
        if len(wire) < RECORD_HEADER:
            return False
        size = record_size(wire[:RECORD_HEADER])
        if size > min(len(wire), room):
            return False
        if wire[0] != _DATA:
            raise Fault(Alert.UNEXPECTED_MESSAGE, "the server sent a record without encryption")
        if size <= RECORD_HEADER + TAG:
            raise bad_mac()
        return True

    def _take(self, plain: memoryview, size: int, inner: int) -> int:
        """What was opened: ``size`` bytes of data, and a record of ``inner`` bytes behind them.

        Returns the bytes of data in both.
        """
        if size:
            self._useless = 0
            if self._late:
                raise Fault(Alert.UNEXPECTED_MESSAGE, "the server sent a record out of order")
        if not inner:
            return size
        content, more = strip(plain[size:], inner)
        if content != _DATA or self._late:
            self._take_control(content, bytes(plain[size : size + more]))
            more = 0
        self._useless = 0 if more else self._useless + 1
        if self._useless > MAX_USELESS:
            raise Fault(Alert.UNEXPECTED_MESSAGE, "the server sends records without data only")
        return size + more

    def _take_control(self, content: int, data: bytes) -> None:
        if content == Content.ALERT and not self._late:
            self._take_alert(data)
        elif content == Content.HANDSHAKE and data:
            self._take_messages(self._late + data)
        else:
            raise Fault(Alert.UNEXPECTED_MESSAGE, "the server sent a record out of order")

    def _take_alert(self, data: bytes) -> None:
        if len(data) != _ALERT_SIZE:
            raise Fault(Alert.DECODE_ERROR, "the server sent an alert of a wrong size")
        if data[1] not in _ORDERLY:
            raise reset(data[1])
        self.ended = data[1] == Alert.CLOSE_NOTIFY

    def _take_messages(self, data: bytes) -> None:
        """Take the whole messages, and keep what came of the next one."""
        while len(data) >= MESSAGE_HEADER:
            size = MESSAGE_HEADER + int.from_bytes(data[1:MESSAGE_HEADER])
            if size > MAX_LATE_MESSAGE:
                raise Fault(Alert.ILLEGAL_PARAMETER, f"the server announced {size} bytes of ticket")
            if len(data) < size:
                break
            self._take_message(data[:size], is_last=len(data) == size)
            data = data[size:]
        self._late = data

    def _take_message(self, message: bytes, *, is_last: bool) -> None:
        if message[0] == Message.TICKET:
            self._tickets = [*self._tickets, read_ticket(message)][-MAX_TICKETS:]
        elif message[0] == Message.KEY_UPDATE and is_last:  # else the rest has no key
            wants_ours = read_key_update(message)
            self._opener.update()
            if wants_ours:
                self._renew()
        else:
            raise Fault(Alert.UNEXPECTED_MESSAGE, "the server sent a message out of order")

    def _explain(self, error: Fault | CircumventError) -> CircumventError:
        if not isinstance(error, Fault):
            return error
        self.outgoing += self.say_alert(error.alert)
        return protocol_error(error)

    # --- out ------------------------------------------------------------------------------------

    def headroom(self, size: int) -> int:
        """Bytes that ``seal`` needs in front of ``size`` bytes."""
        return self._sealer.headroom(size)

    def seal(self, block: memoryview, start: int, end: int) -> tuple[int, int]:
        """Seal ``block[start:end]``; returns where in ``block`` the records now lie.

        They start ``headroom`` bytes in front of the data, which is overwritten. ``outgoing`` from
        before must be sent before them; what is there afterwards, behind them.
        """
        first, last = self._sealer.seal_data(block, start, end)
        if self._sealer.is_worn:
            self._renew()
        return first, last

    def _renew(self) -> None:
        """Tell the peer that our key changes; it need not change its own."""
        message = u8(Message.KEY_UPDATE) + vector24(b"\0")
        self.outgoing += self._sealer.seal(Content.HANDSHAKE, message)
        self._sealer.update()

    def goodbye(self) -> bytes:
        """Close_notify: no data follows."""
        return self.say_alert(Alert.CLOSE_NOTIFY)

    def say_alert(self, alert: Alert) -> bytes:
        """An alert in its record."""
        return self._sealer.seal(Content.ALERT, alert_bytes(alert))

    def take_outgoing(self) -> bytes:
        """What must be sent now; it is forgotten."""
        taken, self.outgoing = self.outgoing, b""
        return taken

    # --- beside ---------------------------------------------------------------------------------

    def take_tickets(self, now: float) -> list[Ticket]:
        """What the server gave for later connections, the oldest first; they are forgotten.

        ``now`` is the caller's clock in seconds.
        """
        taken, self._tickets = self._tickets, []
        return [self._make_ticket(ticket, now) for ticket in taken if ticket.lifetime]

    def _make_ticket(self, new: NewTicket, now: float) -> Ticket:
        outcome = self.outcome
        return Ticket(
            suite=outcome.suite.code,
            identity=new.identity,
            secret=ticket_secret(outcome.suite, outcome.resumption, new.nonce),
            age_add=new.age_add,
            lifetime=new.lifetime,
            received=now,
        )

    def export(self, label: bytes, context: bytes, size: int) -> bytes:
        """Bytes that both ends know and nobody else (RFC 8446 §7.5)."""
        return export(self.outcome.suite, self.outcome.exporter, label, context, size)


def missing(partial: memoryview) -> int:
    """The size of the record that starts with ``partial``, or of its header; raises ProtocolError.

    For whoever leaves a record in the kernel until it is whole.
    """
    if len(partial) < RECORD_HEADER:
        return RECORD_HEADER
    try:
        return record_size(partial[:RECORD_HEADER])
    except Fault as fault:
        raise protocol_error(fault) from None
