"""Only who was invited can knock, and a proof is good for one channel or one moment only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.wire.credential import CREDENTIAL_SIZE, is_credential, make_credential, user_id
from circumvent.wire.knock import (
    KNOCK_KEY_SIZE,
    MAX_NOTE,
    NONCE_SIZE,
    Knock,
    KnockKind,
    open_knock,
    seal_knock,
)

KEY = bytes(range(KNOCK_KEY_SIZE))
CHANNEL = b"finished" * 4

keys = st.binary(min_size=KNOCK_KEY_SIZE, max_size=KNOCK_KEY_SIZE)
bindings = st.binary(max_size=48)
knocks = st.builds(
    Knock,
    st.sampled_from([KnockKind.WEBSOCKET, KnockKind.DOWNLOAD, KnockKind.UPLOAD]),
    st.integers(0, 2**40),
    st.binary(min_size=NONCE_SIZE, max_size=NONCE_SIZE),
    st.binary(max_size=MAX_NOTE),
)
bound_knocks = st.builds(
    Knock, st.just(KnockKind.TLS), st.integers(0, 2**40), knocks.map(lambda k: k.nonce)
)


@given(keys, knocks, bindings)
def test_a_knock_through_another_server_is_not_bound(
    key: bytes, knock: Knock, binding: bytes
) -> None:
    assert open_knock(key, seal_knock(key, knock).encode(), binding) == knock


@given(keys, bound_knocks, bindings.filter(bool), bindings)
def test_a_bound_knock_opens_on_its_channel_only(
    key: bytes, knock: Knock, binding: bytes, other: bytes
) -> None:
    cookie = seal_knock(key, knock, binding).encode()
    assert open_knock(key, cookie, binding) == knock
    assert open_knock(key, cookie, other) == (knock if other == binding else None)


@pytest.mark.parametrize("binding", [b"", CHANNEL])
def test_an_unbound_knock_does_not_open_on_a_channel(binding: bytes) -> None:
    knock = Knock(KnockKind.TLS, 1, bytes(NONCE_SIZE))
    assert open_knock(KEY, seal_knock(KEY, knock).encode(), binding) is None


@given(keys, keys, knocks)
def test_another_key_opens_nothing(key: bytes, other: bytes, knock: Knock) -> None:
    opened = open_knock(other, seal_knock(key, knock).encode(), b"")
    assert opened == (knock if other == key else None)


@given(knocks, st.data())
def test_a_changed_knock_does_not_open(knock: Knock, data: st.DataObject) -> None:
    cookie = bytearray(seal_knock(KEY, knock).encode())
    at = data.draw(st.integers(len(b"session="), len(cookie) - 2))  # the last one has spare bits
    cookie[at] = data.draw(st.sampled_from(b"ABCxyz019_-").filter(lambda new: new != cookie[at]))
    assert open_knock(KEY, bytes(cookie), b"") is None


@given(st.binary(max_size=99) | st.from_regex(rb"session=[A-Za-z0-9_-]{45,60}", fullmatch=True))
def test_random_cookies_hold_no_knock(cookies: bytes) -> None:
    assert open_knock(KEY, cookies, CHANNEL) is None


@pytest.mark.parametrize("around", ["%s", "a=b; %s", "%s; theme=dark", "a=b;%s;c=d"])
def test_a_knock_is_found_among_other_cookies(around: str) -> None:
    knock = Knock(KnockKind.WEBSOCKET, 1_700_000_000, b"n" * NONCE_SIZE)
    cookies = (around % seal_knock(KEY, knock)).encode()
    assert open_knock(KEY, cookies, CHANNEL) == knock


def test_a_knock_looks_random_without_the_key() -> None:
    values = {
        seal_knock(KEY, Knock(KnockKind.TLS, 1, bytes([n]) * NONCE_SIZE))[8:] for n in range(64)
    }
    for place in range(48):  # no letter stands at the same place in all of them
        assert len({value[place] for value in values}) > 8


@given(st.binary(min_size=16, max_size=16), bindings, st.binary(max_size=60))
def test_a_credential_proves_one_token_on_one_channel(
    token: bytes, binding: bytes, other: bytes
) -> None:
    credential = make_credential(token, binding)
    assert credential.startswith(user_id(token))
    assert len(credential) == CREDENTIAL_SIZE
    assert is_credential(credential, token, binding)
    assert is_credential(credential, token, other) is (other == binding)
    assert is_credential(other, token, binding) is False
    assert token not in credential
