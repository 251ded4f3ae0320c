"""Back-off: when something that failed may be tried again.

A few times soon, then about once a minute, unless the timings say otherwise. Where somebody waits,
one pause may end early; the next ones do not. Times are those of one of the clock's readings, and
handed in.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable
from dataclasses import dataclass, replace

from circumvent.errors import DialError
from circumvent.tunnels.timings import BackoffTimings

MOST_KEYS = 4096  # a list may have any number of servers: the failures longest ago are forgotten


@dataclass(frozen=True, slots=True)
class _Failures:
    """``end`` is when it may be tried; ``opens``, when it may be if somebody waits."""

    failures: int
    since: float
    opens: float
    end: float


class BackoffError(DialError):
    """A server failed often enough, and was not tried now. ``seconds`` until it may be."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"it did not answer, and is tried again in {seconds:.0f} s", stage="backoff"
        )
        self.seconds = seconds


class Backoff:
    """Keys are whatever fails as one: a server, one route to it, a name in a network."""

    def __init__(self, timings: BackoffTimings | None = None) -> None:
        self._timings = timings or BackoffTimings()
        self._failures: dict[Hashable, _Failures] = {}
        self._early: dict[Hashable, float] = {}
        self._asked: dict[Hashable, float] = {}

    def ready_at(self, key: Hashable) -> float:
        """When it may be tried; 0 when nothing is known against it."""
        last = self._failures.get(key)
        if last is None:
            return 0.0
        asked_at = max(self._asked.get(key, -math.inf), self._asked.get(None, -math.inf))
        is_awaited = asked_at + self._timings.waits > last.since
        return min(last.opens, last.end) if is_awaited else last.end

    def failed_at(self, key: Hashable) -> float:
        """When it last failed; 0 when nothing is known."""
        last = self._failures.get(key)
        return last.since if last else 0.0

    def failures(self, key: Hashable) -> int:
        """How often it failed in a row."""
        last = self._failures.get(key)
        return last.failures if last else 0

    def failed(self, key: Hashable, now: float, *, is_own_trouble: bool = False) -> None:
        """Count a try, also one whose outcome is open: ``worked`` takes it back.

        ``is_own_trouble``: this machine lacked something, and the server was not reached at all.
        """
        timings = self._timings
        last = self._failures.get(key)
        if last is None or now > last.end + timings.forgotten_after:
            last = _Failures(0, now, now, now)
        if now < last.end:
            self._early[key] = now
        longest = len(timings.pauses) - 1
        which = min(last.failures, min(timings.untried, longest) if is_own_trouble else longest)
        end = now + timings.pauses[which] * random.uniform(*timings.jitter)  # noqa: S311 - no secret
        opens = max(
            now + timings.early_after,
            self._early.get(key, -timings.early_every) + timings.early_every,
        )
        counts = not is_own_trouble or last.failures < timings.untried
        self._failures.pop(key, None)
        self._failures[key] = _Failures(
            last.failures + counts, now, opens if which == longest else end, end
        )
        if len(self._failures) > MOST_KEYS:
            self._forget_one()

    def hold(self, key: Hashable, now: float, until: float, *, is_useless: bool = False) -> None:
        """It was not tried, and need not be before ``until``, unless somebody waits.

        ``is_useless``: it would help nobody who waits.
        """
        last = self._failures.get(key) or _Failures(0, now, now, now)
        opens = until if is_useless else now + self._timings.early_after
        self._failures[key] = replace(last, since=now, opens=opens, end=until)

    def worked(self, key: Hashable, until: float = math.inf) -> None:
        """It worked ``until`` then: only failures since then count."""
        last = self._failures.get(key)
        if last is not None and last.since < until:
            del self._failures[key]

    def ask(self, now: float, key: Hashable = None) -> None:
        """Somebody waits for it (without a key, for anything), or may have to soon."""
        self._asked[key] = now

    def forget(self) -> None:
        """The network changed: old failures say nothing any more."""
        self._failures.clear()
        self._early.clear()

    def _forget_one(self) -> None:
        oldest = next(iter(self._failures))
        for known in (self._failures, self._early, self._asked):
            known.pop(oldest, None)
