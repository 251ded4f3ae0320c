"""The order in which candidates race: by what worked here, by score, and by difference."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from circumvent.net.neighbourhood import network_of
from circumvent.state.scores import Score
from circumvent.tunnels.candidate import Candidate

_UNKNOWN = Score(successes=0, failures=0, ms=0.0, user_failures=0, last_ok=0.0)


def rank(candidates: Iterable[Candidate], scores: Mapping[str, Score]) -> list[Candidate]:
    """Those that worked on this network first, then by score; equal ones are shuffled."""

    def key(candidate: Candidate) -> tuple[float, float, float]:
        score = scores.get(candidate.id, _UNKNOWN)
        bad = score.failures + 2 * score.user_failures  # users' own traffic weighs double
        share = bad / max(1, bad + score.successes)
        return (0.0 if score.last_ok else 1.0, round(share, 1), random.random())  # noqa: S311

    return sorted(candidates, key=key)


def least_alike(ranked: Sequence[Candidate], taken: Iterable[Candidate]) -> Candidate | None:
    """The first of those that share least with the ones in use, in transport and network.

    What blocks one tunnel should not block the next.
    """
    used = [trait for candidate in taken for trait in _traits(candidate)]
    return min(ranked, key=lambda candidate: sum(map(used.count, _traits(candidate))), default=None)


def _traits(candidate: Candidate) -> tuple[str, str]:
    return candidate.transport.name, network_of(candidate.entry.host)
