"""What a carrier's path is like: round trip, rate, and how many bytes should be on the way."""

from __future__ import annotations

from circumvent.session.engine.limits import (
    ACK_DELAY,
    CAP_GAIN,
    DRAIN_EVERY,
    DRAIN_SECONDS,
    FAST_RATE,
    FIRST_CAP,
    FIRST_DRAIN,
    FIRST_RATE,
    LARGEST_FIRST_CAP,
    LEAST_CAP,
    LEAST_DRAINED_CAP,
    LEAST_PATIENCE,
    RATE_WINDOW,
)
from circumvent.wire.frames import MAX_FRAME, MAX_RUN

_RTT_GAIN, _VAR_GAIN, _VAR_WEIGHT = 1 / 8, 1 / 4, 4.0  # RFC 6298 §2
_ROUNDS = 8  # round trips in which a rate is remembered, where that is longer
_LEAST_RTT = 0.0001  # loopback; nothing divides by less
_QUEUE_GAIN = 1.25  # a round trip that grew by so much met a queue: the path is full


class Estimate:
    """Seconds and bytes per second; ``rtt`` is the first guess.

    While it is ``opening``, the cap grows by what arrives until a queue shows (RFC 9406 ends slow
    start so); from then on it follows the measured rate, as BBR's does. ``base_rtt`` is the mean
    round trip without a queue of our own. It is not the least one: on a path with jitter, bytes
    for the luckiest round trip only would halve the rate again and again.
    """

    __slots__ = (
        "_drain_at",
        "_drain_until",
        "_drained",
        "_fastest",
        "_fastest_before",
        "_rate_at",
        "_rttvar",
        "_samples",
        "base_rtt",
        "cap",
        "opening",
        "rate",
        "srtt",
    )

    def __init__(self, rtt: float, now: float) -> None:
        self.srtt = self.base_rtt = max(rtt, _LEAST_RTT)
        self._rttvar = self.srtt / 2
        self._rate_at = now
        self._fastest = self._fastest_before = 0.0
        self._drain_at = now + FIRST_DRAIN
        self._drain_until = self._drained = 0.0
        self._samples = 0
        self.opening = True
        self.rate = FIRST_RATE
        self.cap = self._first_cap()

    @property
    def is_fast(self) -> bool:
        """Whether a run of frames keeps no other stream waiting for long."""
        return self.rate >= FAST_RATE

    @property
    def patience(self) -> float:
        """How long bytes may be on the way without any sign of progress."""
        return max(LEAST_PATIENCE, self.srtt + _VAR_WEIGHT * self._rttvar) + ACK_DELAY

    def see_ping(self, rtt: float, now: float) -> None:
        """A round trip without data. Before there was any, it replaces the first guess."""
        if self._is_measured:
            self.see_rtt(rtt, now)
        else:
            self.srtt = self.base_rtt = max(rtt, _LEAST_RTT)
            self._rttvar = self.srtt / 2
            self.cap = self._first_cap()

    def _first_cap(self) -> int:
        return min(max(FIRST_CAP, self._gained()), LARGEST_FIRST_CAP)

    def see_rtt(self, rtt: float, now: float) -> None:
        """A round trip, without the time for which the peer delayed its answer."""
        rtt = max(rtt, _LEAST_RTT)
        self._rttvar += (abs(self.srtt - rtt) - self._rttvar) * _VAR_GAIN
        self.srtt += (rtt - self.srtt) * _RTT_GAIN
        self.base_rtt = min(self.base_rtt, self.srtt)
        if rtt > _QUEUE_GAIN * self.base_rtt + ACK_DELAY and self._fastest:
            self.opening = False
        if self._drain_until:
            self._see_drained(rtt, now)
        elif now > self._drain_at and not self.opening:
            self._drain_at, self._drain_until = now + self.srtt, now + self.srtt + DRAIN_SECONDS
            self._drained, self._samples = 0.0, 0

    def _see_drained(self, rtt: float, now: float) -> None:
        """Until ``_drain_at`` the queue runs empty, then samples count."""
        if now >= self._drain_at:
            self._drained += rtt
            self._samples += 1
        if now >= self._drain_until and self._samples:
            self.srtt = self.base_rtt = self._drained / self._samples
            self._drain_at, self._drain_until = now + DRAIN_EVERY, 0.0

    def see_rate(
        self, rate: float, arrived: int, on_the_way: int, now: float, *, is_bound_by_path: bool
    ) -> None:
        """``arrived`` bytes came at ``rate``, so many others are still on the way.

        Where we had no more to send, it shows only that the path is no slower.
        """
        if not is_bound_by_path:
            rate = max(rate, self._fastest or self._fastest_before) if self._is_measured else 0.0
        elif self.opening:
            grain = MAX_RUN if self.is_fast else MAX_FRAME
            self.cap += arrived if on_the_way + grain + arrived > self.cap else 0
        if rate:
            self._remember(rate, now)
        if not self.opening:
            self._set_cap()

    @property
    def _is_measured(self) -> bool:
        return self._fastest + self._fastest_before > 0.0

    def _remember(self, rate: float, now: float) -> None:
        if now - self._rate_at > max(RATE_WINDOW, _ROUNDS * self.srtt):
            self._fastest_before, self._fastest, self._rate_at = self._fastest, rate, now
        elif rate > self._fastest:
            self._fastest = rate
        self.rate = max(self._fastest, self._fastest_before)

    def _set_cap(self) -> None:
        if self._drain_until:
            self.cap = max(LEAST_DRAINED_CAP, self._gained() // 2)
        else:
            self.cap = max(LEAST_CAP, self._gained())

    def _gained(self) -> int:
        """What the path holds until the acknowledgement is here, with something to spare."""
        return int(CAP_GAIN * self.rate * (self.base_rtt + ACK_DELAY))
