"""What a probe that ended says of its tunnel: a pure function of the facts.

A verdict of death cuts all of a tunnel's streams. So whatever may be trouble of our own, or of the
network that all tunnels share, is none.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAX_MISSES = 2  # probes in a row without an answer through a server that lives itself


class ProbeVerdict(enum.Enum):
    """What to do about the tunnel."""

    WELL = enum.auto()  # acquit it
    RESUMING = enum.auto()  # it keeps its streams while it looks for new carriers
    UNDECIDED = enum.auto()  # this machine was at fault: probe again
    MISSED = enum.auto()  # the server lives; it may be the pages, or its way to them: probe again
    ALL_SILENT = enum.auto()  # there is nowhere better to go, and a cut would win nothing
    DEAD = enum.auto()


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """What is known when a probe has ended.

    ``passed``: the answer came, or anything else came through the tunnel meanwhile.
    ``is_resuming``: the tunnel outlives its connections, and received something not long ago.
    ``is_own_trouble``: this machine stood still meanwhile, or lacked something.
    ``is_server_alive``: the server itself answered, as in a TLS handshake; ``misses`` counts such
    probes in a row. ``is_silent``: no answer at all came; to be refused or cut is one.
    ``is_alone``: other tunnels received something early and late in the probe's time.
    ``is_long``: it has been silent for longer than a network needs to come back.
    """

    passed: bool
    is_resuming: bool = False
    is_own_trouble: bool = False
    is_server_alive: bool = False
    misses: int = 0
    is_silent: bool = False
    is_alone: bool = False
    is_long: bool = False


def judge(facts: ProbeFacts) -> ProbeVerdict:
    """The verdict."""
    if facts.passed:
        return ProbeVerdict.WELL
    if facts.is_resuming:
        return ProbeVerdict.RESUMING
    if facts.is_own_trouble:
        return ProbeVerdict.UNDECIDED
    if facts.is_server_alive and facts.misses < MAX_MISSES:
        return ProbeVerdict.MISSED
    if facts.is_silent and not (facts.is_alone or facts.is_long):
        return ProbeVerdict.ALL_SILENT
    return ProbeVerdict.DEAD
