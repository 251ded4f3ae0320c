"""In which order candidates race: what worked here, by score, and each unlike the one before."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Mapping, Sequence

from circumvent.tunnels.live import Candidate
from circumvent.tunnels.store import Score

MAX_ENTRANTS = 32  # a race of more would outlast its own news; the rest enter the next one
_UNKNOWN = Score(successes=0, failures=0, ms=0.0, user_failures=0, last_ok=0.0)


def rank(candidates: Iterable[Candidate], scores: Mapping[str, Score]) -> list[Candidate]:
    """What last worked on this network first, then by score, equals shuffled."""

    def key(candidate: Candidate) -> tuple[float, float, float]:
        score = scores.get(candidate.id, _UNKNOWN)
        bad = score.failures + 2 * score.user_failures  # users' own traffic weighs double
        share = bad / max(1, bad + score.successes)
        return (0.0 if score.last_ok else 1.0, round(share, 1), random.random())  # noqa: S311

    return sorted(candidates, key=key)


def diversify(ranked: Sequence[Candidate], taken: Iterable[Candidate]) -> list[Candidate]:
    """Spread transports and networks: what blocks one tunnel should not block the next.

    ``taken`` are in use already. Keeps the order among equally fresh candidates.
    """
    chosen: list[Candidate] = []
    used = [trait for candidate in taken for trait in _traits(candidate)]
    left = list(ranked)
    while left and len(chosen) < MAX_ENTRANTS:
        best = min(left, key=lambda candidate: sum(map(used.count, _traits(candidate))))
        left.remove(best)
        chosen.append(best)
        used.extend(_traits(best))
    return chosen


def network_of(host: str) -> str:
    """The neighbourhood that a censor blocks at once: /24, /48, or the name's last labels."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ".".join(host.lower().split(".")[-2:])
    prefix = 24 if address.version == 4 else 48  # noqa: PLR2004 - IP versions
    return str(ipaddress.ip_network((address, prefix), strict=False))


def _traits(candidate: Candidate) -> tuple[str, str]:
    return candidate.transport.name, network_of(candidate.entry.host)
