"""Keys as text: each says what it is, and one letter less is no key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.wire.keys import Key, KeyKind, generate, parse_key

# RFC 8032 §7.1 test 1, and RFC 9180 appendix A.2.1, the recipient.
SIGNER = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
TRUSTED = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
BUCKET = "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"
SEALING = "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"

keys = st.builds(Key, st.sampled_from(KeyKind), st.binary(min_size=32, max_size=32))


@given(keys)
def test_a_key_survives_being_written_and_read(key: Key) -> None:
    assert parse_key(f" {key.text()}\n", key.kind) == key


@given(keys)
def test_a_key_of_another_kind_is_refused(key: Key) -> None:
    others = [kind for kind in KeyKind if kind is not key.kind]
    with pytest.raises(ValueError, match=f"is an {key.kind.value} key; needed: ") as caught:
        parse_key(key.text(), *others)
    assert key.text().partition(":")[2] not in str(caught.value)


def test_a_cut_key_is_refused() -> None:
    text = generate(KeyKind.SIGNER).text()
    for end in range(len(text)):
        with pytest.raises(ValueError, match=r"is no key|is cut or altered"):
            parse_key(text[:end], KeyKind.SIGNER)


@pytest.mark.parametrize(
    ("secret", "public"),
    [
        (Key(KeyKind.SIGNER, bytes.fromhex(SIGNER)), Key(KeyKind.TRUSTED, bytes.fromhex(TRUSTED))),
        (Key(KeyKind.BUCKET, bytes.fromhex(BUCKET)), Key(KeyKind.SEALING, bytes.fromhex(SEALING))),
    ],
)
def test_the_public_half_is_that_of_the_rfc(secret: Key, public: Key) -> None:
    assert secret.public() == public
    assert public.public() == public


def test_a_secret_is_not_shown() -> None:
    assert repr(Key(KeyKind.SIGNER, b"\x07" * 32)) == "Key(kind=<KeyKind.SIGNER: 'ed25519-secret'>)"
