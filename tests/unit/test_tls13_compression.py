"""Compressed certificates: what unpacks to too much, or asks for too much memory."""

from __future__ import annotations

import contextlib

import pytest

from circumvent.wire.tls13.codes import Message
from circumvent.wire.tls13.compression import decompress
from circumvent.wire.tls13.faults import Fault
from circumvent.wire.tls13.messages import MAX_MESSAGE
from circumvent.wire.tls13.reader import u8, u16, vector24
from tests.unit.tls13_server import PACKERS, message


def compressed(way: int, packed: bytes, size: int) -> bytes:
    body = u16(way) + size.to_bytes(3) + vector24(packed)
    return message(Message.COMPRESSED_CERTIFICATE, body)


@pytest.mark.parametrize("way", PACKERS)
def test_what_unpacks_to_more_than_it_says_is_not_unpacked(way: int) -> None:
    bomb = PACKERS[way](bytes(MAX_MESSAGE * 200))
    with pytest.raises(Fault, match="not as long as it says"):
        decompress(compressed(way, bomb, 100), (way,))


@pytest.mark.parametrize(("power", "is_opened"), [(23, True), (24, False), (31, False)])
def test_no_more_memory_is_given_than_zstandard_asks_of_everybody(
    power: int, *, is_opened: bool
) -> None:
    """A frame of one raw block, and the window that it asks for (RFC 8878 §3.1.1)."""
    block = (100 << 3 | 1).to_bytes(3, "little") + bytes(100)
    frame = b"\x28\xb5\x2f\xfd\0" + u8((power - 10) << 3) + block
    given = contextlib.nullcontext() if is_opened else pytest.raises(Fault, match="is broken")
    with given:
        assert decompress(compressed(3, frame, 100), (3,)).endswith(bytes(100))
