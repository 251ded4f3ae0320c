"""What happened to the questions, so that a failure can give the reason."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from circumvent.api import (
    ChannelError,
    CircumventError,
    HandshakeError,
    ProtocolError,
    StreamResetError,
    Verdict,
)
from circumvent_plugins.dns_channel.messages import AnswerKind, DnsAnswer
from circumvent_plugins.dns_channel.source import DnsResolver, DnsSource

# The verdict that explains most comes first.
_ORDER = (
    Verdict.FORGED,
    Verdict.BROKEN,
    Verdict.NOT_FOUND,
    Verdict.BLOCKED,
    Verdict.REFUSED,
    Verdict.TOO_SLOW,
    Verdict.UNREACHABLE,
)


class Report:
    """Notes what each resolver did."""

    def __init__(self, source: DnsSource) -> None:
        self._source = source
        self._said: dict[tuple[DnsResolver, str], set[AnswerKind]] = {}
        self._did: dict[DnsResolver, set[Verdict]] = {who: set() for who in source.resolvers}

    def received(self, who: DnsResolver, answer: DnsAnswer) -> None:
        """Note an answer; two answers of different kinds to one question show a forger."""
        said = self._said.setdefault((who, answer.name), set())
        said.add(answer.kind)
        if answer.kind is AnswerKind.FOREIGN or len(said) > 1:
            self.note(who, Verdict.FORGED)
        elif answer.kind is AnswerKind.ABSENT:
            self.note(who, Verdict.NOT_FOUND)
        elif answer.kind is AnswerKind.FAILED:
            self.note(who, Verdict.REFUSED)

    def fail(self, who: DnsResolver, error: CircumventError | TimeoutError) -> None:
        """Note that a resolver could not be asked."""
        self.note(who, _verdict(error))

    def note(self, who: DnsResolver, verdict: Verdict) -> None:
        """Note what a resolver did."""
        self._did[who].add(verdict)

    @property
    def is_forged(self) -> bool:
        """Whether somebody on the path answered instead of a resolver."""
        return any(Verdict.FORGED in did for did in self._did.values())

    def error(self) -> ChannelError:
        """The reason why there is no bundle."""
        counts = dict(self._counts())
        verdict = next(filter(counts.get, _ORDER), Verdict.TOO_SLOW)
        subject = f"DNS answers for {self._source.zone}"
        if verdict is Verdict.FORGED:
            return ChannelError(verdict, subject)
        share = f"{counts.get(verdict, 0)} of {len(self._did)} resolvers"
        return ChannelError(verdict, f"{subject}: {share}")

    def _counts(self) -> Iterator[tuple[Verdict, int]]:
        for verdict in _ORDER:
            yield verdict, sum(verdict in did for did in self._did.values())


def _verdict(error: CircumventError | TimeoutError) -> Verdict:
    if isinstance(error, TimeoutError):
        return Verdict.TOO_SLOW
    if isinstance(error, ProtocolError):
        return Verdict.BROKEN
    if isinstance(error, (HandshakeError, StreamResetError)) and error.errno != errno.ECONNREFUSED:
        return Verdict.BLOCKED
    return Verdict.UNREACHABLE
