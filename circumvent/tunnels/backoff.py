"""When who failed may be tried again: a few times soon, then once a minute.

Censors count how often one name in one network is greeted. Where somebody waits, one rest may end
early; the next ones do not. Times are ``time.monotonic``, in seconds, and handed in.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable
from dataclasses import dataclass, replace

from circumvent.errors import DialError

# After so many failures in a row: five tries in the first minute, a sixth if somebody waits, and
# never two within 0.4 s. Who is back is found within a minute.
RESTS = (0.4, 0.4, 0.45, 8.0, 54.0)
UNTRIED = 3  # of them, at most, for who could not even be tried: nobody was greeted
JITTER = (1.0, 1.1)  # drawn anew each time: no clockwork, and servers do not come back together
EARLY_AFTER = 5.0  # since the last try, if somebody waits
EARLY_EVERY = 300.0
WAITS = 10.0  # who asked waits for so long, also beyond a try that fails meanwhile
FORGOTTEN_AFTER = 300.0  # since the end of a rest: what failed before was not in a row any more


@dataclass(frozen=True, slots=True)
class _Failures:
    """``end`` is when it may be tried; ``opens``, when it may be if somebody waits."""

    failures: int
    since: float
    opens: float
    end: float


class BackoffError(DialError):
    """A server was greeted often enough; nothing was tried. ``seconds`` until it may be."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it did not answer, and rests for another {seconds:.0f} s", stage="rest")
        self.seconds = seconds


class Backoff:
    """Keys are whatever fails as one: a server, one way to it, a name in a network."""

    def __init__(self) -> None:
        self._rests: dict[Hashable, _Failures] = {}
        self._early: dict[Hashable, float] = {}
        self._asked: dict[Hashable, float] = {}

    def ready_at(self, key: Hashable) -> float:
        """When it may be tried."""
        rest = self._rests.get(key)
        if rest is None:
            return 0.0
        asked_at = max(self._asked.get(key, -math.inf), self._asked.get(None, -math.inf))
        is_awaited = asked_at + WAITS > rest.since
        return min(rest.opens, rest.end) if is_awaited else rest.end

    def failed_at(self, key: Hashable) -> float:
        """When it last failed; 0 when nothing is known."""
        rest = self._rests.get(key)
        return rest.since if rest else 0.0

    def failed(self, key: Hashable, now: float, *, is_own_trouble: bool = False) -> None:
        """A try that may come to nothing; ``worked`` takes it back.

        With ``is_own_trouble`` we did not get as far as to greet anybody.
        """
        last = self._rests.get(key)
        if last is None or now > last.end + FORGOTTEN_AFTER:
            last = _Failures(0, now, now, now)
        if now < last.end:
            self._early[key] = now
        longest = len(RESTS) - 1
        which = min(last.failures, min(UNTRIED, longest) if is_own_trouble else longest)
        end = now + RESTS[which] * random.uniform(*JITTER)  # noqa: S311 - no secret
        opens = max(now + EARLY_AFTER, self._early.get(key, -EARLY_EVERY) + EARLY_EVERY)
        counts = not is_own_trouble or last.failures < UNTRIED
        self._rests[key] = _Failures(
            last.failures + counts, now, opens if which == longest else end, end
        )

    def hold(self, key: Hashable, now: float, until: float, *, is_useless: bool = False) -> None:
        """It was not tried, and need not be before ``until``, unless somebody waits.

        What ``is_useless`` would help nobody who waits.
        """
        last = self._rests.get(key) or _Failures(0, now, now, now)
        opens = until if is_useless else now + EARLY_AFTER
        self._rests[key] = replace(last, since=now, opens=opens, end=until)

    def worked(self, key: Hashable, until: float = math.inf) -> None:
        """It lived ``until`` then: if it failed since, that is news."""
        rest = self._rests.get(key)
        if rest is not None and rest.since < until:
            del self._rests[key]

    def ask(self, now: float, key: Hashable = None) -> None:
        """Somebody waits for it, or for anything, or may have to soon."""
        self._asked[key] = now

    def forgive(self) -> None:
        """Things changed: old failures say nothing any more."""
        self._rests.clear()
        self._early.clear()
