from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.errors import ProtocolError
from circumvent.wire import socks5
from circumvent.wire.address import Destination

HOSTS = (
    st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(str)
    | st.from_regex(r"[a-z][a-z0-9-]{0,60}\.(com|org)", fullmatch=True)
)
DESTINATIONS = st.builds(Destination, HOSTS, st.integers(1, 0xFFFF))
FIELDS = st.binary(max_size=255)


def login(username: bytes, password: bytes) -> bytes:
    return bytes((1, len(username))) + username + bytes((len(password),)) + password


def connect(destination: Destination, command: int = socks5.CONNECT) -> bytes:
    return bytes((5, command, 0)) + destination.encode()


@given(methods=st.binary(max_size=255), behind=st.binary(max_size=8))
def test_a_greeting_is_read_up_to_its_last_method(methods: bytes, behind: bytes) -> None:
    greeting = bytes((5, len(methods))) + methods
    assert socks5.parse_greeting(greeting + behind) == ((methods,), len(greeting))


@given(username=FIELDS, password=FIELDS, behind=st.binary(max_size=8))
def test_a_login_is_read_up_to_its_last_byte(
    username: bytes, password: bytes, behind: bytes
) -> None:
    message = login(username, password)
    assert socks5.parse_login(message + behind) == ((username, password), len(message))


@given(destination=DESTINATIONS, behind=st.binary(max_size=8))
def test_a_request_is_read_up_to_its_port(destination: Destination, behind: bytes) -> None:
    message = connect(destination)
    assert socks5.parse_request(message + behind) == ((1, destination), len(message))


@given(destination=DESTINATIONS, username=FIELDS, password=FIELDS)
def test_every_incomplete_message_asks_for_more(
    destination: Destination, username: bytes, password: bytes
) -> None:
    request, greeting = connect(destination), bytes((5, 3, 0, 1, 2))
    message = login(username, password)
    assert not any(socks5.parse_request(request[:end]) for end in range(len(request)))
    assert not any(socks5.parse_greeting(greeting[:end]) for end in range(len(greeting)))
    assert not any(socks5.parse_login(message[:end]) for end in range(len(message)))


@given(data=st.binary(max_size=600))
def test_any_bytes_are_parsed_refused_or_incomplete(data: bytes) -> None:
    for parse in (socks5.parse_greeting, socks5.parse_login, socks5.parse_request):
        for start in (data, b"\x05" + data, b"\x01" + data, b"\x05\x01\x00\x03" + data):
            try:
                found = parse(start)
            except ProtocolError:
                continue
            assert found is None or 0 < found[1] <= len(start)


@given(data=st.binary(min_size=socks5.MAX_MESSAGE, max_size=2 * socks5.MAX_MESSAGE))
def test_no_message_is_longer_than_the_limit(data: bytes) -> None:
    assert socks5.parse_greeting(b"\x05" + data)
    assert socks5.parse_login(b"\x01" + data)


@pytest.mark.parametrize(
    ("parse", "message"),
    [
        (socks5.parse_greeting, b"\x05\x01\x00"),
        (socks5.parse_login, login(b"me", b"secret")),
        (socks5.parse_request, connect(Destination("site.test", 80))),
    ],
)
def test_another_version_is_refused(parse: Callable[[bytes], object], message: bytes) -> None:
    assert parse(message)
    with pytest.raises(ProtocolError):
        parse(b"\x04" + message[1:])


@pytest.mark.parametrize("command", [2, 3, 9])
def test_commands_other_than_connect_have_no_destination(command: int) -> None:
    nowhere = bytes((5, command, 0, 1)) + bytes(6)
    assert socks5.parse_request(nowhere) == ((command, None), len(nowhere))


def test_an_unknown_kind_of_address_has_no_destination() -> None:
    assert socks5.parse_request(b"\x05\x01\x00\x02") == ((1, None), 4)


@pytest.mark.parametrize(
    "host",
    [b"", b"a b", b"line\r\nbreak", b"nul\x00", b"\xff\xfe", b"a:b", b"fe80::1%eth0"],
)
def test_a_name_that_no_tunnel_could_carry_is_refused(host: bytes) -> None:
    name = bytes((len(host),)) + host
    with pytest.raises(ProtocolError):
        socks5.parse_request(b"\x05\x01\x00\x03" + name + b"\x00\x50")


def test_port_zero_is_refused() -> None:
    with pytest.raises(ProtocolError):
        socks5.parse_request(b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x00")


def test_an_address_sent_as_a_name_becomes_an_address() -> None:
    found = socks5.parse_request(b"\x05\x01\x00\x03\x03::1\x00\x50")
    assert found is not None
    assert found[0].destination == Destination("::1", 80)


def test_replies_name_no_bound_address() -> None:
    assert socks5.REPLIES[socks5.Reply.SUCCEEDED] == bytes.fromhex("05000001000000000000")
    assert socks5.REPLIES[socks5.Reply.COMMAND_UNSUPPORTED][1] == 7
