"""What must be reached and what is aimed at, and the verdict on what was measured."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.contenders import OURS

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


IDLE = "KiB/idle stream"
DOWN, EACH = "down CPU s/GiB", "CPU ms/connection"
BOUNDS: Mapping[tuple[str, str], Bound] = {
    ("shadowsocks", DOWN): Bound(0.85, 0.75),
    ("shadowsocks", "down MiB/s"): Bound(1.15, 1.3, least=True),
    ("shadowsocks", "connections/s"): Bound(0.9, 1, least=True),
    ("shadowsocks", IDLE): Bound(10, 6, ratio=False),
    **{
        (service, figure): bound
        for service in ("trojan", "vless")
        for figure, bound in (
            (DOWN, Bound(0.95, 0.85)),
            (EACH, Bound(1.2, 1)),
            (IDLE, Bound(12, 8, ratio=False)),
        )
    },
    ("reality", DOWN): Bound(0.95, 0.85),
    ("reality", IDLE): Bound(12, 8, ratio=False),
    ("vision", DOWN): Bound(1.1, 1),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of one service, of ours and of the ``peer`` beside."""

    service: str
    figure: str
    samples: Samples
    peer: str

    def median(self, contender: str) -> float:
        """The middle one of a contender's samples."""
        return statistics.median(self.samples[contender])

    @property
    def ratio(self) -> float | None:
        """Ours to the peer's, of the medians; None where the peer's is nothing."""
        beside = self.median(self.peer)
        return self.median(OURS.name) / beside if beside else None

    @property
    def bound(self) -> Bound | None:
        """What is asked of this figure, if anything."""
        return BOUNDS.get((self.service, self.figure))

    @property
    def verdict(self) -> str:
        """``aim``, ``must`` or ``missed``; empty where nothing is asked."""
        bound = self.bound
        if bound is None:
            return ""
        figure = self.ratio if bound.ratio else self.median(OURS.name)
        if figure is None:
            return ""
        if bound.reached(figure, bound.aim):
            return "aim"
        return "must" if bound.reached(figure, bound.must) else "missed"
