"""The wire format is what docs/session-protocol.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.errors import ProtocolError
from circumvent.session.engine import limits
from circumvent.wire.address import Destination
from circumvent.wire.frames import (
    HEADER_SIZE,
    MAX_FRAME,
    MAX_OFFSET,
    MAX_PAYLOAD,
    PAD,
    CloseReason,
    FrameKind,
    ResetReason,
    pack,
    read_head,
)
from circumvent.wire.hello import (
    MAX_CREDENTIAL,
    Attach,
    Create,
    Welcome,
    attach_proof,
    format_hello,
    format_refusal,
    format_welcome,
    is_proven,
    parse_answer,
    parse_hello,
)
from circumvent.wire.opening import format_opening, parse_opening

DOCUMENT = (Path(__file__).parents[2] / "docs" / "session-protocol.md").read_text()
NAME, SECRET = bytes(range(16)), bytes(range(0x20, 0x40))
HERE = b"a channel"
SITE, ADDRESS = Destination("example.com", 443), Destination("2001:db8::1", 80)
MILLISECONDS = (1500).to_bytes(4)

VECTORS = {
    'DATA stream 1 offset 10 "hello"': pack(FrameKind.DATA, 1, 10, b"hello"),
    "OPEN stream 3 window 65536 to example.com:443": pack(
        FrameKind.OPEN, 3, 65536, format_opening(SITE)
    ),
    "OPEN stream 5 window 16384 to [2001:db8::1]:80": pack(
        FrameKind.OPEN, 5, 16384, format_opening(ADDRESS)
    ),
    "WINDOW session 1048576": pack(FrameKind.WINDOW, 0, 1 << 20),
    "FIN stream 1 size 15": pack(FrameKind.FIN, 1, 15),
    "RESET stream 1 size 15 reason 5": pack(FrameKind.RESET, 1, 15, bytes((ResetReason.REFUSED,))),
    "STOP stream 2 reason 0": pack(FrameKind.STOP, 2, 0, bytes((ResetReason.CANCELLED,))),
    "ACK carrier 7 bytes 32768 delay 1500": pack(FrameKind.ACK, 7, 32768, MILLISECONDS),
    "PING 42": pack(FrameKind.PING, 0, 42),
    "PONG 42": pack(FrameKind.PONG, 0, 42),
    "ASK carrier 7": pack(FrameKind.ASK, 7, 0),
    "GONE carrier 7 bytes 32768": pack(FrameKind.GONE, 7, 32768),
    "CLOSE reason 2": format_refusal(CloseReason.UNKNOWN_SESSION),
    "WELCOME streams 512": format_welcome(Welcome(512)),
    'HELLO carrier 1 create session 00..0f secret 20..3f credential "invited"': format_hello(
        Create(1, NAME, SECRET, b"invited")
    ),
    'HELLO carrier 2 attach session 00..0f secret 20..3f binding "a channel"': format_hello(
        Attach(2, NAME, attach_proof(SECRET, NAME, 2, HERE))
    ),
}


def written() -> dict[str, bytes]:
    """The vectors of the document."""
    (block,) = re.findall(r"```vectors\n(.*?)```", DOCUMENT, re.DOTALL)
    entries = (entry.partition("\n") for entry in block.strip().split("\n\n"))
    return {title: bytes.fromhex(hexadecimal) for title, _, hexadecimal in entries}


def test_every_vector_is_what_we_write() -> None:
    assert written() == VECTORS


def test_every_kind_is_in_the_document() -> None:
    rows = [f"| {kind:#04x} | {kind.name} |" for kind in FrameKind]
    assert [row for row in rows if row not in DOCUMENT] == []


def test_every_reason_to_close_is_in_the_document() -> None:
    rows = [f"\n| {each.value} | {each.name.lower().partition('_')[0]}" for each in CloseReason]
    assert [row for row in rows if row not in DOCUMENT] == []


@pytest.mark.parametrize(
    "number",
    [
        f"{MAX_FRAME:,} bytes",
        f"{MAX_PAYLOAD:,} bytes",
        f"{limits.MAX_UNACKED_FRAMES:,} DATA frames",
        f"{limits.FIRST_WINDOW:,}\nbytes",
        f"credit of {limits.FIRST_CREDIT:,} bytes",
        f"last {limits.FINAL_COUNTS} broken",
        f"exceed {limits.MAX_USELESS:,} and then {limits.USELESS_PER_SECOND:,.0f} a second",
    ],
)
def test_numbers_of_the_document_are_those_of_the_code(number: str) -> None:
    assert number in DOCUMENT


@given(
    kind=st.sampled_from([FrameKind.DATA, FrameKind.OPEN]),
    stream=st.integers(1, 0xFFFFFFFF),
    offset=st.integers(0, MAX_OFFSET - 512),
    payload=st.binary(min_size=1, max_size=512),
    before=st.binary(max_size=5),
)
def test_a_head_is_read_as_it_was_written(
    kind: FrameKind, stream: int, offset: int, payload: bytes, before: bytes
) -> None:
    frame = pack(kind, stream, offset, payload)
    head = read_head(before + frame, len(before))
    assert head == (kind, stream, offset, len(before) + len(frame))


@given(st.binary(min_size=HEADER_SIZE, max_size=HEADER_SIZE))
def test_any_other_head_is_refused(data: bytes) -> None:
    try:
        head = read_head(data)
    except ProtocolError:
        return
    length = head.end - HEADER_SIZE
    assert length <= MAX_PAYLOAD
    assert pack(FrameKind(head.kind), head.stream, head.offset, bytes(length))[:16] == data


def test_an_offset_ends_at_the_limit_of_the_document() -> None:
    assert read_head(pack(FrameKind.DATA, 1, 2**62 - 2, b"x")).offset == 2**62 - 2
    with pytest.raises(ProtocolError, match="out of range"):
        read_head(pack(FrameKind.DATA, 1, 2**62 - 1, b"x"))


def test_padding_answers_no_ping() -> None:
    head = read_head(PAD)
    assert head.kind == FrameKind.PONG
    assert head.offset >= 2**32  # the numbers of PINGs stay below


@given(st.binary(max_size=MAX_CREDENTIAL), st.integers(1, 0xFFFFFFFF), st.binary(max_size=40))
def test_a_hello_is_read_up_to_its_end(credential: bytes, number: int, behind: bytes) -> None:
    hello = Create(number, NAME, SECRET, credential)
    wire = format_hello(hello)
    assert parse_hello(wire + behind) == (hello, len(wire))
    assert all(parse_hello(wire[:end]) is None for end in range(0, len(wire), 7))


def test_an_answer_is_read_up_to_its_end() -> None:
    for answer, wire in (
        (Welcome(9), format_welcome(Welcome(9))),
        (CloseReason.BUSY, format_refusal(CloseReason.BUSY)),
    ):
        assert parse_answer(wire + b"behind") == (answer, len(wire))
        assert all(parse_answer(wire[:end]) is None for end in range(len(wire)))


def test_a_credential_that_is_too_long_is_not_sent() -> None:
    longest = Create(1, NAME, SECRET, bytes(MAX_CREDENTIAL))
    assert parse_hello(format_hello(longest)) == (longest, HEADER_SIZE + 1024)
    with pytest.raises(ValueError, match="credential"):
        format_hello(Create(1, NAME, SECRET, bytes(MAX_CREDENTIAL + 1)))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        pack(FrameKind.DATA, 1, 0, b"x"),
        pack(FrameKind.HELLO, 1, 0, b"\x02" + bytes(60)),
        pack(FrameKind.HELLO, 1, 0, b"\x01\x07" + bytes(60)),
        pack(FrameKind.HELLO, 0, 0, b"\x01\x00" + bytes(60)),
        pack(FrameKind.HELLO, 1, 1, b"\x01\x00" + bytes(60)),
        pack(FrameKind.HELLO, 1, 0, b"\x01\x01" + bytes(49)),
        pack(FrameKind.HELLO, 1, 0, b"\x01"),
    ],
)
def test_what_is_no_hello_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_hello(data)


@pytest.mark.parametrize(
    ("name", "number", "binding", "secret"),
    [
        (bytes(16), 2, HERE, SECRET),
        (NAME, 3, HERE, SECRET),
        (NAME, 2, b"another channel", SECRET),
        (NAME, 2, HERE, bytes(32)),
    ],
)
def test_a_proof_holds_for_one_session_carrier_channel_and_secret(
    name: bytes, number: int, binding: bytes, secret: bytes
) -> None:
    proof = attach_proof(SECRET, NAME, 2, HERE)
    assert is_proven(Attach(2, NAME, proof), SECRET, HERE)
    assert not is_proven(Attach(number, name, proof), secret, binding)


@pytest.mark.parametrize("destination", [SITE, ADDRESS, Destination("192.0.2.7", 1)])
def test_an_opening_names_its_destination(destination: Destination) -> None:
    wire = format_opening(destination)
    assert parse_opening(wire) == destination
    for wrong in (wire[:-1], wire + b"\0", b"\x09" + wire[1:], b"", b"\x03", wire[:-2] + b"\0\0"):
        with pytest.raises(ProtocolError):
            parse_opening(wrong)
