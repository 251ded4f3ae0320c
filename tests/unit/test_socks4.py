import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.errors import ProtocolError
from circumvent.wire import socks4
from circumvent.wire.address import Destination

TEXTS = st.binary(max_size=255).map(lambda text: text.replace(b"\x00", b"?"))
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,60}\.(com|org)", fullmatch=True)
PORTS = st.integers(1, 0xFFFF)
ADDRESSES = st.ip_addresses(v=4, network="1.0.0.0/8")


def with_address(address: bytes, port: int, user: bytes, command: int = 1) -> bytes:
    return bytes((4, command)) + port.to_bytes(2) + address + user + b"\x00"


def with_name(name: str, port: int, user: bytes = b"") -> bytes:
    return with_address(bytes((0, 0, 0, 1)), port, user) + name.encode() + b"\x00"


@given(address=ADDRESSES, port=PORTS, user=TEXTS, behind=st.binary(max_size=8))
def test_socks4_carries_an_address(address: object, port: int, user: bytes, behind: bytes) -> None:
    message = with_address(bytes(map(int, str(address).split("."))), port, user)
    expected = (1, Destination(str(address), port))
    assert socks4.parse_request(message + behind) == (expected, len(message))


@given(name=NAMES, port=PORTS, user=TEXTS, behind=st.binary(max_size=8))
def test_socks4a_carries_a_name(name: str, port: int, user: bytes, behind: bytes) -> None:
    message = with_name(name, port, user)
    assert socks4.parse_request(message + behind) == ((1, Destination(name, port)), len(message))


@given(name=NAMES, user=TEXTS)
def test_every_incomplete_request_asks_for_more(name: str, user: bytes) -> None:
    message = with_name(name, 443, user)
    assert not any(socks4.parse_request(message[:end]) for end in range(len(message)))


@given(data=st.binary(max_size=600))
def test_any_bytes_are_parsed_refused_or_incomplete(data: bytes) -> None:
    for start in (data, b"\x04" + data, b"\x04\x01\x00\x50\x00\x00\x00\x01" + data):
        try:
            found = socks4.parse_request(start)
        except ProtocolError:
            continue
        assert found is None or 0 < found[1] <= len(start)


@given(data=st.binary(min_size=socks4.MAX_MESSAGE, max_size=2 * socks4.MAX_MESSAGE))
def test_no_request_is_incomplete_beyond_the_limit(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert socks4.parse_request(b"\x04" + data)


def test_bind_has_no_destination() -> None:
    message = with_address(bytes(4), 0, b"me", command=2)
    assert socks4.parse_request(message) == ((2, None), len(message))


@pytest.mark.parametrize("name", ["", "a b", "line\r\nbreak"])
def test_a_name_that_no_tunnel_could_carry_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        socks4.parse_request(with_name(name, 80))
