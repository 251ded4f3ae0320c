"""What of a list cannot be used, in one line."""

from __future__ import annotations

from collections import Counter

MAX_REASONS = 4  # the most frequent are told


def describe_refused(reasons: Counter[str], total: int) -> str:
    """How many links of ``total`` cannot be used and why, grouped; empty when all can be."""
    if not reasons:
        return ""
    told = [f"{count} x {reason}" for reason, count in reasons.most_common(MAX_REASONS)]
    if rest := sum(count for _, count in reasons.most_common()[MAX_REASONS:]):
        told.append(f"{rest} for other reasons")
    return f"{reasons.total()} of {total} links cannot be used: {'; '.join(told)}"
