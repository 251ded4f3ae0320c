"""The measured figures for people and for programs."""

import json
from collections.abc import Sequence

from tests.bench.aims import Line
from tests.bench.contenders import OURS

WIDTHS = (12, 18, 26, 36, 7, 18, 0)
HEAD = ("service", "figure", "circumvent", "the peer", "ratio", "asked", "verdict")


def cells_of(line: Line) -> tuple[str, ...]:
    """The cells of one line of the table: medians with their least and greatest beside."""
    ours, peer = (spread(line, name) for name in (OURS.name, line.peer))
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
    beside = f"{peer} {line.peer}"
    return (line.service, line.figure, ours, beside, ratio, str(line.bound or ""), line.verdict)


def spread(line: Line, contender: str) -> str:
    """``median (least - greatest)``."""
    samples = line.samples[contender]
    middle, least, most = (f"{n:.4g}" for n in (line.median(contender), min(samples), max(samples)))
    return middle if len(samples) == 1 else f"{middle} ({least} - {most})"


def row(cells: Sequence[str]) -> str:
    """Cells in columns."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def as_json(line: Line) -> str:
    """The same for programs, one object a line; every sample is kept."""
    return json.dumps(
        {
            "service": line.service,
            "figure": line.figure,
            "samples": {name: list(samples) for name, samples in line.samples.items()},
            "peer": line.peer,
            "ratio": line.ratio,
            "must": line.bound.must if line.bound else None,
            "aim": line.bound.aim if line.bound else None,
            "verdict": line.verdict,
        }
    )
