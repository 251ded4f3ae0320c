"""Records: sealed and opened where they lie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.errors import ProtocolError, StreamResetError
from circumvent.wire.tls13.codes import MAX_PLAINTEXT, Alert, Content, Message
from circumvent.wire.tls13.connection import MAX_USELESS, Connection, Outcome, missing
from circumvent.wire.tls13.reader import u8, vector24
from circumvent.wire.tls13.records import MAX_RECORD, Opener, Sealer
from circumvent.wire.tls13.suites import MAX_RECORDS, SUITES, Suite
from tests.unit.tls13_world import open_all, seal

AES = SUITES[0x1301]
SECRET, OTHER = b"s" * 32, b"o" * 32


def outcome(suite: Suite) -> Outcome:
    return Outcome(suite, "", 0, False, b"", b"", b"")


def connection(suite: Suite = AES) -> Connection:
    """It opens what ``peer`` seals."""
    secret, other = SECRET[:1] * suite.hash_size, OTHER[:1] * suite.hash_size
    return Connection(outcome(suite), Opener(suite, secret), Sealer(suite, other))


def peer(suite: Suite = AES) -> Sealer:
    return Sealer(suite, SECRET[:1] * suite.hash_size)


def other_end(suite: Suite = AES) -> Connection:
    """It opens what ``connection`` seals, and seals what that one opens."""
    secret, other = SECRET[:1] * suite.hash_size, OTHER[:1] * suite.hash_size
    return Connection(outcome(suite), Opener(suite, other), Sealer(suite, secret))


def raw(sealer: Sealer, inner: bytes) -> bytes:
    """A record around ``inner``, which has its content type and padding already."""
    block = bytearray(5 + len(inner) + 16)
    sealer._seal(memoryview(inner), memoryview(block))  # noqa: SLF001 - as a strange peer would
    return bytes(block)


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: hex(suite.code))
@pytest.mark.parametrize(
    "size", [0, 1, MAX_PLAINTEXT - 1, MAX_PLAINTEXT, MAX_PLAINTEXT + 1, 5 * MAX_PLAINTEXT + 7]
)
def test_what_is_sealed_is_opened(suite: Suite, size: int) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    one, other = connection(suite), other_end(suite)
    assert open_all(other, seal(one, data)) == data
    assert open_all(one, seal(other, data)) == data


@given(
    pieces=st.lists(st.binary(max_size=50), max_size=6),
    limit=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 400), max_size=4),
)
def test_any_pieces_in_any_reads(pieces: list[bytes], limit: int, cuts: list[int]) -> None:
    one, other = connection(), other_end()
    one._sealer.limit = limit  # noqa: SLF001 - as a server may ask for
    wire = b"".join(seal(one, piece) for piece in pieces)
    opened, rest, last = b"", b"", 0
    for cut in [*sorted(cuts), len(wire)]:
        rest += wire[last:cut]
        last = max(last, cut)
        block = memoryview(bytearray(MAX_RECORD) + rest)
        used, size = other.open(block[MAX_RECORD:], block)
        opened += bytes(block[:size])
        rest = rest[used:]
    assert opened == b"".join(pieces)
    assert not rest


def test_only_the_headroom_and_the_data_are_touched() -> None:
    one, data = connection(), bytes(3 * MAX_PLAINTEXT + 5)
    room = one.headroom(len(data))
    block = memoryview(bytearray(b"<" * 10) + bytearray(room) + data + b">" * 10)
    first, last = one.seal(block, 10 + room, 10 + room + len(data))
    assert first == 10
    assert bytes(block[:10]) == b"<" * 10
    assert bytes(block[-10:]) == b">" * 10
    assert last <= 10 + room + len(data)


def test_one_record_may_be_opened_over_itself() -> None:
    record = memoryview(bytearray(peer().seal(Content.DATA, b"in place")))
    content, size = Opener(AES, SECRET[:1] * 32).open(record, record[5:])
    assert (content, bytes(record[5 : 5 + size])) == (Content.DATA, b"in place")


def test_at_most_so_many_records() -> None:
    sealer = peer()
    wire = sealer.seal(Content.DATA, b"one") + sealer.seal(Content.DATA, b"two")
    block = memoryview(bytearray(MAX_RECORD) + wire)
    used, size = connection().open(block[MAX_RECORD:], block, most=1)
    assert bytes(block[:size]) == b"one"
    assert used == len(wire) // 2


def test_a_small_buffer_is_filled_and_no_more() -> None:
    sealer = peer()
    wire = sealer.seal(Content.DATA, b"one") + sealer.seal(Content.DATA, b"two")
    one, plain = connection(), memoryview(bytearray(len(wire) // 2 + 2))
    used, size = one.open(memoryview(wire), plain)
    assert (used, bytes(plain[:size])) == (len(wire) // 2, b"one")
    assert open_all(one, wire[used:]) == b"two"


def test_padding_and_empty_records_are_nothing() -> None:
    sealer = peer()
    wire = raw(sealer, b"\x17" + bytes(900)) + raw(sealer, b"data\x17" + bytes(50))
    assert open_all(connection(), wire + sealer.seal(Content.DATA, b"")) == b"data"


def test_empty_records_are_forgiven_once_data_comes() -> None:
    sealer, other = peer(), connection()
    for _ in range(2):
        for _ in range(MAX_USELESS):
            assert open_all(other, raw(sealer, b"\x17")) == b""
        assert open_all(other, sealer.seal(Content.DATA, b"data")) == b"data"


def test_a_record_in_part_says_what_is_missing() -> None:
    record = memoryview(peer().seal(Content.DATA, bytes(100)))
    assert missing(record[:4]) == 5
    assert missing(record[:5]) == missing(record) == len(record)
    with pytest.raises(ProtocolError, match="no TLS record"):
        missing(memoryview(b"HTTP/1.1 200 OK"))


def test_worn_keys_are_renewed() -> None:
    one, other = connection(), other_end()
    one._sealer._sequence = other._opener._sequence = MAX_RECORDS - 1  # noqa: SLF001
    wire = seal(one, b"last")
    assert len(wire) > len(b"last") + 22
    assert open_all(other, wire) == b"last"
    assert open_all(other, seal(one, b"first")) == b"first"
    assert not other.outgoing


# --- what a peer must not send -------------------------------------------------------------------


def strange(name: str) -> bytes:
    sealer = peer()
    key_update = u8(Message.KEY_UPDATE) + vector24(b"\0")
    return {
        "altered": sealer.seal(Content.DATA, b"data")[:-1] + b"x",
        "only padding": raw(sealer, bytes(10)),
        "not encrypted": b"\x16\x03\x03\x00\x05hello",
        "change_cipher_spec": b"\x14\x03\x03\x00\x01\x01",
        "no TLS": b"HTTP/1.1 400 Bad Request",
        "too long": b"\x17\x03\x03\x41\x01",
        "no tag": b"\x17\x03\x03\x00\x10" + bytes(16),
        "too much data": raw(sealer, bytes(MAX_PLAINTEXT + 1) + b"\x17"),
        "strange content": raw(sealer, b"x\x18"),
        "empty handshake": raw(sealer, b"\x16"),
        "another hello": sealer.seal(Content.HANDSHAKE, u8(1) + vector24(b"")),
        "a key update and more": sealer.seal(Content.HANDSHAKE, key_update + b"\x04"),
        "half a key update": sealer.seal(Content.HANDSHAKE, u8(24) + vector24(b"\x02")),
        "a huge ticket": sealer.seal(Content.HANDSHAKE, b"\x04\x10\x00\x00"),
        "a broken ticket": sealer.seal(Content.HANDSHAKE, u8(4) + vector24(b"123")),
        "data inside of a message": sealer.seal(Content.HANDSHAKE, b"\x04\0")
        + sealer.seal(Content.DATA, b"data"),
        "half an alert": sealer.seal(Content.ALERT, b"\x02"),
        "useless": b"".join(sealer.seal(Content.DATA, b"") for _ in range(MAX_USELESS + 1)),
        "too many updates": _updates(),
    }[name]


def _updates() -> bytes:
    sealer, wire = peer(), b""
    for _ in range(MAX_USELESS + 1):
        wire += sealer.seal(Content.HANDSHAKE, u8(Message.KEY_UPDATE) + vector24(b"\0"))
        sealer.update()
    return wire


STRANGE = [
    *("altered", "only padding", "not encrypted", "change_cipher_spec", "no TLS", "too long"),
    *("no tag", "too much data", "strange content", "empty handshake", "another hello"),
    *("a key update and more", "half a key update", "a huge ticket", "a broken ticket"),
    *("data inside of a message", "half an alert", "useless", "too many updates"),
]


@pytest.mark.parametrize("name", STRANGE)
def test_strange_records_are_refused_for_good(name: str) -> None:
    one = connection()
    with pytest.raises(ProtocolError, match="TLS: "):
        open_all(one, strange(name))
    with pytest.raises(StreamResetError):  # the alert that the peer is told
        open_all(other_end(), one.take_outgoing())
    with pytest.raises(ProtocolError):
        open_all(one, b"")


def test_what_came_before_is_given_first() -> None:
    one, sealer = connection(), peer()
    wire = sealer.seal(Content.DATA, b"good") + b"\x17\x03\x03\x00\x20" + bytes(32)
    block = memoryview(bytearray(MAX_RECORD) + wire)
    _, size = one.open(block[MAX_RECORD:], block)
    assert bytes(block[:size]) == b"good"
    with pytest.raises(ProtocolError, match="does not authenticate"):
        open_all(one, b"")


def test_an_alert_of_the_peer_is_named() -> None:
    wire = peer().seal(Content.ALERT, u8(2) + u8(Alert.BAD_RECORD_MAC))
    with pytest.raises(StreamResetError, match="altered on the way"):
        open_all(connection(), wire)


def test_after_the_goodbye_nothing_counts() -> None:
    sealer = peer()
    wire = sealer.seal(Content.ALERT, b"\x01\x5a") + sealer.seal(Content.ALERT, b"\x01\0")
    one = connection()
    assert open_all(one, wire + b"whatever") == b""
    assert one.ended


@given(position=st.integers(0, 400), bit=st.integers(0, 7))
def test_each_bit_counts(position: int, bit: int) -> None:
    """Version bytes of a header are authenticated too."""
    wire = bytearray(peer().seal(Content.DATA, b"data" * 20))
    wire[position % len(wire)] ^= 1 << bit
    block = memoryview(bytearray(MAX_RECORD) + wire)
    try:
        used, size = connection().open(block[MAX_RECORD:], block)
    except ProtocolError:
        return
    assert (used, size) == (0, 0)  # a longer length: the rest is waited for
