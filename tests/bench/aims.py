"""What must be reached and what is aimed at, and the verdict on what was measured."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.contenders import OURS, PEER

Samples = Mapping[str, Sequence[float]]  # by contender


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit of a figure: of ours alone, or of the ratio of ours to the peer's."""

    must: float
    aim: float
    ratio: bool = True
    least: bool = False

    def reached(self, figure: float, limit: float) -> bool:
        """Whether a figure keeps to a limit."""
        return figure >= limit if self.least else figure <= limit

    def __str__(self) -> str:
        sign = "≥" if self.least else "≤"
        return f"{sign} {self.must:g} (aim {self.aim:g})"


BOUNDS: Mapping[tuple[str, str], Bound] = {
    ("shadowsocks", "down CPU s/GiB"): Bound(0.85, 0.75),
    ("shadowsocks", "down MiB/s"): Bound(1.15, 1.3, least=True),
    ("shadowsocks", "connections/s"): Bound(0.9, 1, least=True),
    ("shadowsocks", "KiB/idle stream"): Bound(10, 6, ratio=False),
    ("trojan", "down CPU s/GiB"): Bound(1.2, 0.9),
    ("trojan", "connections/s"): Bound(0.9, 1, least=True),
    ("trojan", "KiB/idle stream"): Bound(45, 25, ratio=False),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of one transport, of everybody."""

    transport: str
    figure: str
    samples: Samples

    def median(self, contender: str) -> float:
        """The middle one of a contender's samples."""
        return statistics.median(self.samples[contender])

    @property
    def ratio(self) -> float | None:
        """Ours to the peer's, of the medians; None where only one of them was measured."""
        if not (self.samples.keys() >= {OURS.name, PEER.name} and self.median(PEER.name)):
            return None
        return self.median(OURS.name) / self.median(PEER.name)

    @property
    def bound(self) -> Bound | None:
        """What is asked of this figure, if anything."""
        return BOUNDS.get((self.transport, self.figure))

    @property
    def verdict(self) -> str:
        """``aim``, ``must`` or ``missed``; empty where nothing is asked."""
        bound = self.bound
        if bound is None or OURS.name not in self.samples:
            return ""
        figure = self.ratio if bound.ratio else self.median(OURS.name)
        if figure is None:
            return ""
        if bound.reached(figure, bound.aim):
            return "aim"
        return "must" if bound.reached(figure, bound.must) else "missed"
