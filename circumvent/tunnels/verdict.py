"""What a probe that ended says of its tunnel: pure functions of the facts.

A verdict of death cuts all of a tunnel's streams. So whatever may be trouble of our own, or of the
network that all tunnels share, is none.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from circumvent.errors import ProbeError, StreamResetError

_OF_A_PAGE = (ProbeError, StreamResetError, TimeoutError)
MAX_MISSES = 2  # probes in a row without an answer through a server that lives itself


class ProbeVerdict(enum.Enum):
    """What to do about the tunnel."""

    WELL = enum.auto()  # acquit it
    RESUMING = enum.auto()  # it keeps its streams while it looks for new carriers
    UNDECIDED = enum.auto()  # this machine was at fault: probe again
    MISSED = enum.auto()  # the server lives; it may be the pages, or its way to them: probe again
    PAGE_GONE = enum.auto()  # keep the last resort: only users can tell whether it works
    USELESS = enum.auto()  # give the last resort up: users get nothing through it either
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
    ``is_page_gone``: the server proved itself, and only the page was out of reach.
    ``is_last_resort``: no better tunnel is there, and its users got something not long ago, or no
    probe ever passed; ``is_in_vain``: several users in a row got nothing through it.
    """

    passed: bool
    is_resuming: bool = False
    is_own_trouble: bool = False
    is_server_alive: bool = False
    misses: int = 0
    is_silent: bool = False
    is_alone: bool = False
    is_long: bool = False
    is_page_gone: bool = False
    is_last_resort: bool = False
    is_in_vain: bool = False


def judge(facts: ProbeFacts) -> ProbeVerdict:
    """The verdict."""
    if facts.passed:
        return ProbeVerdict.WELL
    if facts.is_last_resort and facts.is_page_gone:
        is_useless = facts.is_in_vain and not facts.is_own_trouble
        return ProbeVerdict.USELESS if is_useless else ProbeVerdict.PAGE_GONE
    if facts.is_resuming:
        return ProbeVerdict.RESUMING
    if facts.is_own_trouble:
        return ProbeVerdict.UNDECIDED
    if facts.is_server_alive and facts.misses < MAX_MISSES:
        return ProbeVerdict.MISSED
    is_shared = facts.is_silent and not (facts.is_alone or facts.is_long)
    return ProbeVerdict.ALL_SILENT if is_shared else ProbeVerdict.DEAD


def is_page_gone(failure: BaseException, *, opened: bool, answered: bool) -> bool:
    """Whether a probe failed for its page alone, through a server that has proved itself.

    ``opened``: a stream through the server was open. ``answered``: the server proved itself in a
    handshake. Then silence and an early end are the page's. Another answer is none of the page:
    it may be that of the web site behind which a server hides, which does not know us. Where no
    handshake proves anything, as in Shadowsocks, an answer that could be decrypted does.
    """
    stage = failure.stage if isinstance(failure, ProbeError) else ""
    if stage == "destination":
        return True
    if stage == "answer":
        return not answered
    return opened and answered and isinstance(failure, _OF_A_PAGE)
