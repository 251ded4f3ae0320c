"""Only a first flight that is exactly one ClientHello may be sent a second time."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.wire.client_hello import MAX_FLIGHT, Offer, is_complete_client_hello

RECORD_HEADER = 5


def make_hello(*, alpn: tuple[str, ...] = (), maximum: ssl.TLSVersion | None = None) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if maximum:
        context.maximum_version = maximum
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="example.com")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HELLO = make_hello()
MESSAGE = HELLO[RECORD_HEADER:]


def make_record(fragment: bytes, kind: int = 22) -> bytes:
    return bytes((kind, 3, 1)) + len(fragment).to_bytes(2) + fragment


def make_message(body: bytes, kind: int = 1) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3) + body


def make_body(extensions: bytes | None = b"", *, session: int = 32, ciphers: int = 4) -> bytes:
    tail = b"" if extensions is None else len(extensions).to_bytes(2) + extensions
    return b"".join(
        (
            b"\x03\x03",
            bytes(32),
            bytes((session,)) + bytes(session),
            ciphers.to_bytes(2) + bytes(ciphers),
            b"\x01\x00",
            tail,
        )
    )


def make_extension(kind: int, body: bytes = b"") -> bytes:
    return kind.to_bytes(2) + len(body).to_bytes(2) + body


def is_hello(body: bytes) -> bool:
    return is_complete_client_hello(make_record(make_message(body)))


@pytest.mark.parametrize(
    "hello",
    [
        HELLO,
        make_hello(alpn=("h2", "http/1.1")),
        make_hello(maximum=ssl.TLSVersion.TLSv1_2),
    ],
)
def test_a_real_hello_is_complete(hello: bytes) -> None:
    assert is_complete_client_hello(hello)
    assert is_complete_client_hello(memoryview(hello))


@given(st.integers(1, len(MESSAGE) - 1), st.integers(1, len(MESSAGE) - 1))
def test_a_hello_may_span_records(first: int, second: int) -> None:
    low, high = sorted((first, second))
    pieces = (MESSAGE[:low], MESSAGE[low:high], MESSAGE[high:])
    assert is_complete_client_hello(b"".join(make_record(piece) for piece in pieces if piece))


def test_a_cut_hello_is_not_complete() -> None:
    assert not any(is_complete_client_hello(HELLO[:size]) for size in range(len(HELLO)))


@given(st.binary(min_size=1, max_size=40))
def test_nothing_may_follow(tail: bytes) -> None:
    assert not is_complete_client_hello(HELLO + tail)
    assert not is_complete_client_hello(HELLO + make_record(tail))
    assert not is_complete_client_hello(make_record(MESSAGE + tail))
    assert not is_complete_client_hello(HELLO + make_record(tail, kind=23))


def test_two_hellos_are_not_one() -> None:
    assert not is_complete_client_hello(HELLO + HELLO)
    assert not is_complete_client_hello(make_record(MESSAGE + MESSAGE))


def test_early_data_is_refused_at_any_place() -> None:
    other = make_extension(0x2B, b"\x02\x03\x04")
    early = make_extension(42)
    assert is_hello(make_body(other))
    for extensions in (early, early + other, other + early):
        assert not is_hello(make_body(extensions))


def test_extensions_may_be_missing_before_tls_1_3() -> None:
    assert is_hello(make_body(None))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x02\x00" + make_body()[2:],
        make_body(session=33),
        make_body(ciphers=0),
        make_body(ciphers=3),
        make_body(b"\x00"),
        make_body(make_extension(0)[:-1]),
        make_body(make_extension(0, b"abc")[:-1]),
        make_body() + b"\x00",
    ],
)
def test_a_malformed_body_is_refused(body: bytes) -> None:
    assert not is_hello(body)


def test_other_records_and_messages_are_refused() -> None:
    message = make_message(make_body())
    assert not is_complete_client_hello(make_record(message, kind=23))
    assert not is_complete_client_hello(make_record(make_message(make_body(), kind=2)))
    assert not is_complete_client_hello(make_record(b"") + make_record(message))
    assert not is_complete_client_hello(make_record(message) + make_record(b""))
    assert not is_complete_client_hello(b"\x16\x02" + make_record(message)[2:])
    assert not is_complete_client_hello(b"GET / HTTP/1.1\r\n\r\n")
    assert not is_complete_client_hello(b"")


def test_more_than_one_flight_is_refused() -> None:
    padding = make_extension(21, bytes(MAX_FLIGHT))
    assert not is_hello(make_body(padding))


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_offer_is_read_from_records_while_they_come(size: int) -> None:
    message = make_hello(alpn=("h2", "http/1.1"))[RECORD_HEADER:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    wire = b"".join(map(make_record, pieces))
    offer = Offer()
    assert all(offer.read(wire[:end]) is None for end in range(0, len(wire), 3))
    assert offer.read(wire) == (b"h2", b"http/1.1")


@pytest.mark.parametrize(
    "data",
    [
        HELLO,
        b"GET / HTTP/1.1\r\n\r\n",
        make_record(b""),
        make_record(make_message(make_body(), kind=2)),
        make_record(make_message(make_body(make_extension(16, b"\x00\x05\x02h2")))),
    ],
)
def test_what_is_no_hello_or_names_no_protocol_offers_nothing(data: bytes) -> None:
    assert Offer().read(data) == ()


@given(st.binary(max_size=300))
def test_garbage_never_raises(garbage: bytes) -> None:
    assert not is_complete_client_hello(garbage)
    assert not is_complete_client_hello(make_record(garbage or b"\x00"))


@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255))
def test_a_changed_byte_never_raises(place: int, value: int) -> None:
    changed = bytearray(HELLO)
    changed[place] = value
    assert is_complete_client_hello(bytes(changed)) in (True, False)
