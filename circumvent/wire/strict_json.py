"""JSON without its traps: no key twice, no number but integers, no deep nesting."""

from __future__ import annotations

import json
from typing import NoReturn

_WHOLE = 1 << 53  # RFC 8259 §6: beyond it implementations disagree


def parse_strict_json(data: bytes) -> object:
    """The value in ``data``; raises ValueError."""
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_refuse,
            parse_constant=_refuse,
        )
    except RecursionError:
        message = "is nested too deeply"
        raise ValueError(message) from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        message = "has a key twice"
        raise ValueError(message)
    return table


def _integer(text: str) -> int:
    number = int(text) if len(text) <= len(str(_WHOLE)) else _WHOLE
    if abs(number) >= _WHOLE:
        message = "has a number that is too large"
        raise ValueError(message)
    return number


def _refuse(_: str) -> NoReturn:
    message = "has a number that is not whole"
    raise ValueError(message)
