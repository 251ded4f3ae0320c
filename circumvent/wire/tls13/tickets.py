"""Resumption with a ticket of an earlier connection (RFC 8446 §2.2, §4.2.11)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from circumvent.wire.tls13.codes import Extension
from circumvent.wire.tls13.key_schedule import KeySchedule, Transcript, finished
from circumvent.wire.tls13.reader import u16, vector8, vector16
from circumvent.wire.tls13.suites import SUITES, Suite

_LENGTH = 2  # bytes of the length in front of the binders


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a later connection to the same server needs; whoever keeps it keeps a secret.

    ``received`` is the caller's clock, in seconds; ``lifetime`` counts from there. A ticket
    stands for the certificate that was verified when it was given, so it is good only for
    the same terms (name, pins, protocols).
    """

    suite: int
    identity: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    age_add: int
    lifetime: int
    received: float

    def is_fresh(self, now: float) -> bool:
        """Whether the server can be expected to know it still."""
        return 0 <= now - self.received < self.lifetime


@dataclass(frozen=True, slots=True)
class Offer:
    """A ticket as the last extension of a ClientHello, at a certain time."""

    ticket: Ticket
    now: float

    @property
    def suite(self) -> Suite:
        """Of the connection that gave the ticket; a new one must have the same hash."""
        return SUITES[self.ticket.suite]

    def extension(self) -> bytes:
        """With zeros for the binder, which is not known yet."""
        binder = bytes(self.suite.hash_size)
        body = self._identities() + vector16(vector8(binder))
        return u16(Extension.PRE_SHARED_KEY) + vector16(body)

    def _identities(self) -> bytes:
        milliseconds = int((self.now - self.ticket.received) * 1000)
        age = (milliseconds + self.ticket.age_add) % (1 << 32)
        return vector16(vector16(self.ticket.identity) + age.to_bytes(4))

    def bind(self, hello: bytes, before: Transcript | None) -> bytes:
        """``hello`` with the true binder: an HMAC of all in front of it (RFC 8446 §4.2.11.2).

        ``before`` is what was said before a second hello.
        """
        suite = self.suite
        size = suite.hash_size + 1
        partial = hello[: -size - _LENGTH]
        digest = (
            before.digest_with(partial)
            if before is not None
            else hashlib.new(suite.hash_name, partial).digest()
        )
        binder = finished(suite, KeySchedule(suite, self.ticket.secret).binder_key(), digest)
        return partial + vector16(vector8(binder))
