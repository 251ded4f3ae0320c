"""Every span of time that the DNS channel goes by, in seconds, each with its reason."""

from __future__ import annotations

from msgspec import Struct


class DnsTimings(Struct, frozen=True):
    """How long questions wait for answers."""

    fetch: float = 12.0  # and a last round: less than callers wait, so that they learn the reason
    ask: float = 5.0  # of one resolver
    # Nearly all forged answers come within 0.4 s, and the real one after them.
    later_answers: float = 2.0
    secure_first: float = 1.5  # resolvers with TLS alone: plain questions show the zone to all
    settle: float = 0.6  # after a first answer that could be forged, for a later one
