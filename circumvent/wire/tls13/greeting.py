"""The client's greeting, again if need be, and what follows from the server's answer.

RFC 8446 §4.1.
"""

from __future__ import annotations

from circumvent.wire.tls13.codes import Alert
from circumvent.wire.tls13.faults import Fault
from circumvent.wire.tls13.hello import Hello
from circumvent.wire.tls13.key_schedule import KeySchedule, Transcript
from circumvent.wire.tls13.key_shares import USABLE, agree
from circumvent.wire.tls13.server_hello import ServerHello
from circumvent.wire.tls13.suites import Suite
from circumvent.wire.tls13.tickets import Offer


class Greeting:
    """What we offer, and what was said up to now.

    ``offer`` is a ticket of an earlier connection. ``message`` is our last ClientHello.
    ``is_rejected``: the server could not open what was encrypted in it.
    """

    __slots__ = ("_hello", "_offer", "_retried", "is_rejected", "message", "transcript")

    def __init__(self, hello: Hello, offer: Offer | None = None) -> None:
        self.is_rejected = False
        self.transcript = Transcript()
        self.message = b""
        self._hello, self._offer = hello, offer
        self._retried: ServerHello | None = None

    def say(self) -> bytes:
        """The first ClientHello."""
        self.message = self._build(None)
        self.transcript.start(self.message)
        return self.message

    def _build(self, before: Transcript | None) -> bytes:
        if self._offer is None:
            return self._hello.message()
        message = self._hello.message(self._offer.extension())
        return self._offer.bind(message, before)

    @property
    def session_id(self) -> bytes:
        """What the server must echo."""
        return self._hello.session_id

    @property
    def sent(self) -> set[int]:
        """The numbers of our extensions, which are all that a server may answer."""
        return set(self._hello.order)

    @property
    def alpn(self) -> tuple[str, ...]:
        """What we offered."""
        return self._hello.alpn

    @property
    def compressions(self) -> tuple[int, ...]:
        """How certificates may come compressed."""
        return self._hello.template.compressions

    def say_again(self, answer: ServerHello, message: bytes) -> bytes:
        """The second ClientHello; ``message`` is the HelloRetryRequest (RFC 8446 §4.1.4)."""
        self._prepare_again(answer)
        self.transcript.retry(answer.suite.hash_name)
        self.transcript.add(message)
        self.message = self._build(self.transcript)
        self.transcript.add(self.message)
        return self.message

    def _prepare_again(self, answer: ServerHello) -> None:
        """Change what the server asks to be changed."""
        group = answer.group
        if not group and not answer.cookie:
            raise Fault(Alert.ILLEGAL_PARAMETER, "the server asks for the same greeting again")
        if group and (group in self._hello.pairs or group not in self._hello.groups & USABLE):
            raise Fault(Alert.ILLEGAL_PARAMETER, "the server asks for a key that it cannot have")
        self._retried = answer
        if group:
            self._hello.share_only(group)
        if answer.cookie:
            self._hello.echo_cookie(answer.cookie)
        if self._offer is not None and not _fits(self._offer.suite, answer.suite):
            self._offer = None

    def agree(self, answer: ServerHello, message: bytes) -> tuple[KeySchedule, bool]:
        """The secrets of the handshake, and whether our ticket was taken."""
        self._check_retried(answer)
        self.transcript.choose(answer.suite.hash_name)
        self.transcript.add(message)
        psk = self._taken_secret(answer)
        if not answer.group:
            raise Fault(Alert.MISSING_EXTENSION, "the server sent no key share")
        schedule = KeySchedule(answer.suite, psk)
        schedule.mix(agree(self._hello.pairs, answer.group, answer.share))
        return schedule, bool(psk)

    def _check_retried(self, answer: ServerHello) -> None:
        before = self._retried
        if before is None:
            return
        if answer.suite != before.suite or (before.group and answer.group != before.group):
            raise Fault(Alert.ILLEGAL_PARAMETER, "the server changed its mind in the handshake")

    def _taken_secret(self, answer: ServerHello) -> bytes:
        """The secret of our ticket, empty where it was not taken (RFC 8446 §4.2.11)."""
        if answer.psk is None:
            return b""
        if self._offer is None or answer.psk or not _fits(self._offer.suite, answer.suite):
            raise Fault(Alert.ILLEGAL_PARAMETER, "the server took a ticket that was not offered")
        return self._offer.ticket.secret


def _fits(one: Suite, other: Suite) -> bool:
    return one.hash_name == other.hash_name
