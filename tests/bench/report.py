"""The measured figures for people and for programs."""

import json
from collections.abc import Sequence

from tests.bench.aims import Line

WIDTHS = (12, 18, 26, 26, 7, 18, 0)


def table(lines: Sequence[Line], contenders: Sequence[str]) -> str:
    """Medians with their least and greatest beside, ratios, and what is asked."""
    head = ("transport", "figure", *contenders, "ratio", "asked", "verdict")
    return "\n".join(
        row(cells) for cells in (head, *(cells_of(line, contenders) for line in lines))
    )


def cells_of(line: Line, contenders: Sequence[str]) -> tuple[str, ...]:
    """The cells of one line of the table."""
    samples = (spread(line, name) for name in contenders)
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
    return (line.transport, line.figure, *samples, ratio, str(line.bound or ""), line.verdict)


def spread(line: Line, contender: str) -> str:
    """``median (least - greatest)``."""
    samples = line.samples[contender]
    middle, least, most = (f"{n:.4g}" for n in (line.median(contender), min(samples), max(samples)))
    return middle if len(samples) == 1 else f"{middle} ({least} - {most})"


def row(cells: Sequence[str]) -> str:
    """Cells in columns."""
    widths = (*WIDTHS[:2], *[WIDTHS[2]] * (len(cells) - 5), *WIDTHS[-3:])
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def as_json(lines: Sequence[Line]) -> str:
    """The same for programs; every sample is kept."""
    return json.dumps(
        [
            {
                "transport": line.transport,
                "figure": line.figure,
                "samples": {name: list(samples) for name, samples in line.samples.items()},
                "ratio": line.ratio,
                "must": line.bound.must if line.bound else None,
                "aim": line.bound.aim if line.bound else None,
                "verdict": line.verdict,
            }
            for line in lines
        ],
        indent=2,
    )
