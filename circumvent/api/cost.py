"""What libraries of a plugin allocate outside of the arena."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """Worst-case foreign memory, in bytes, measured: per dial and per open stream."""

    dial: int
    stream: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.dial + other.dial, self.stream + other.stream)
