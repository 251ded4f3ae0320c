"""When who failed may be tried again: a few times soon, then once a minute.

Censors count how often one name in one network is greeted. Whoever is waited for may be tried
before its time; what was taken early is missing later, so that in the long run the count is kept.
Times are ``time.monotonic``, in seconds, and handed in.
"""

from __future__ import annotations

import random
from collections.abc import Hashable
from dataclasses import dataclass, replace

from circumvent.errors import DialError

# After so many failures in a row. Five or, when asked, six tries in the first minute; none within
# 0.4 s of another; and whoever is back is found within a minute.
RESTS = (0.4, 0.4, 0.45, 8.0, 54.0)
JITTER = (1.0, 1.1)  # drawn anew each time: no clockwork, and servers do not come back together
ASKED_AFTER = 5.0  # since the last try, if somebody waits
FORGOTTEN_AFTER = 300.0  # since the end of a rest: that was not in a row any more


@dataclass(frozen=True, slots=True)
class _Rest:
    """``opens`` is when it may be tried if somebody asks, ``end`` when it may be in any case."""

    failures: int
    since: float
    opens: float
    end: float


class RestingError(DialError):
    """A server was greeted often enough; nothing was tried. ``seconds`` until it may be."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it did not answer, and rests for another {seconds:.0f} s", stage="rest")
        self.seconds = seconds


class Rests:
    """Keys are whatever fails as one: a server, one way to it, a name in a network."""

    def __init__(self) -> None:
        self._rests: dict[Hashable, _Rest] = {}
        self._asked_at = 0.0

    def ready_at(self, key: Hashable) -> float:
        """When it may be tried."""
        rest = self._rests.get(key)
        if rest is None:
            return 0.0
        is_asked_for = self._asked_at > rest.since
        return min(rest.end, max(rest.opens, self._asked_at)) if is_asked_for else rest.end

    def failed_at(self, key: Hashable) -> float:
        """When it last failed; 0 when nothing is known."""
        rest = self._rests.get(key)
        return rest.since if rest else 0.0

    def failed(self, key: Hashable, now: float) -> None:
        """A try that may come to nothing; ``worked`` takes it back."""
        last = self._rests.get(key)
        if last is None or now > last.end + FORGOTTEN_AFTER:
            last = _Rest(0, now, now, now)
        due = max(now, last.end)  # later, if it was tried early
        seconds = RESTS[min(last.failures, len(RESTS) - 1)] * random.uniform(*JITTER)  # noqa: S311
        opens = max(due, now + ASKED_AFTER)
        self._rests[key] = _Rest(last.failures + 1, now, opens, due + seconds)

    def hold(self, key: Hashable, now: float, until: float) -> None:
        """It was not tried, and need not be before ``until``, unless somebody asks."""
        last = self._rests.get(key) or _Rest(0, now, now, now)
        self._rests[key] = replace(last, since=now, opens=now + ASKED_AFTER, end=until)

    def worked(self, key: Hashable) -> None:
        """It lives: if it fails now, that is news."""
        self._rests.pop(key, None)

    def ask(self, now: float) -> None:
        """Somebody waits, or something else works again: look sooner, within bounds."""
        self._asked_at = now

    def forgive(self) -> None:
        """Things changed: old failures say nothing any more."""
        self._rests.clear()
