"""JSON with one spelling for each value, so that no two readers can see different things.

A text is taken only if writing its value again gives the same bytes. So no key is there twice, no
number is written in two ways, no base64 has stray bits, and no byte can change unseen.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

Value = TypeVar("Value", bound=msgspec.Struct)


def parse(data: bytes, kind: type[Value]) -> Value:
    """The value in ``data``; raises ValueError, whose text quotes nothing of it."""
    try:
        value = msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise ValueError(
            "has an unknown field" if "unknown field" in str(error) else str(error)
        ) from None
    if serialize(value) != data:
        raise ValueError("is not in its canonical form")
    return value


def serialize(value: msgspec.Struct) -> bytes:
    """The one spelling of ``value``."""
    return msgspec.json.encode(value)
