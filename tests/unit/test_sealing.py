"""Packing and sealing, beside HPKE written by hand from RFC 9180 and checked with its vectors."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from circumvent.wire import sealing

BUCKET = bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
SUITE = b"HPKE\x00\x20\x00\x01\x00\x03"  # X25519, HKDF-SHA256, ChaCha20Poly1305


def extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt, b"HPKE-v1" + suite + label + material, hashlib.sha256)


def expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = length.to_bytes(2) + b"HPKE-v1" + suite + label + info
    return hmac.digest(key, labelled + b"\x01", hashlib.sha256)[:length]


def open_by_hand(sealed: bytes, private_key: bytes, info: bytes, associated: bytes) -> bytes:
    """RFC 9180 §4.1, §5.1, §5.2, base mode, first message."""
    key = X25519PrivateKey.from_private_bytes(private_key)
    enc, ciphertext = sealed[:32], sealed[32:]
    kem = b"KEM\x00\x20"
    secret = extract(kem, b"", b"eae_prk", key.exchange(X25519PublicKey.from_public_bytes(enc)))
    context = enc + key.public_key().public_bytes_raw()
    shared = expand(kem, secret, b"shared_secret", context, 32)
    schedule = b"\x00" + extract(SUITE, b"", b"psk_id_hash", b"")
    schedule += extract(SUITE, b"", b"info_hash", info)
    secret = extract(SUITE, shared, b"secret", b"")
    nonce = expand(SUITE, secret, b"base_nonce", schedule, 12)
    cipher = ChaCha20Poly1305(expand(SUITE, secret, b"key", schedule, 32))
    return cipher.decrypt(nonce, ciphertext, associated)


def test_the_hand_written_hpke_is_that_of_the_rfc() -> None:
    """RFC 9180 appendix A.2.1.1, sequence number 0."""
    sealed = bytes.fromhex(
        "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"
        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db"
        "21993c62ce81883d2dd1b51a28"
    )
    opened = open_by_hand(sealed, BUCKET, b"Ode on a Grecian Urn", b"Count-0")
    assert opened == b"Beauty is truth, truth beauty"


@given(st.binary(max_size=3000))
def test_sealing_is_hpke_over_zero_padding(packed: bytes) -> None:
    public_key = X25519PrivateKey.from_private_bytes(BUCKET).public_key().public_bytes_raw()
    sealed = sealing.seal(packed, public_key)
    opened = open_by_hand(sealed, BUCKET, b"circumvent bundle v1", b"")
    assert opened == packed + bytes(-len(packed) % sealing.PAD_TO)
    assert sealing.unseal(sealed, BUCKET) == opened
    assert sealing.unseal(sealed, b"\x01" * 32) is None


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(32), bytes(48), bytes(2000)])
def test_random_bytes_do_not_unseal(sealed: bytes) -> None:
    assert sealing.unseal(sealed, BUCKET) is None


@given(st.binary(max_size=3000), st.integers(0, sealing.PAD_TO - 1))
def test_packing_and_unpacking_are_inverse(data: bytes, padding: int) -> None:
    assert sealing.unpack(sealing.pack(data) + bytes(padding), 3000) == data


def test_no_more_is_unpacked_than_the_limit() -> None:
    packed = sealing.pack(b"x" * 1000)
    assert sealing.unpack(packed, 1000) == b"x" * 1000
    with pytest.raises(ValueError, match="more than 999 bytes"):
        sealing.unpack(packed, 999)


@given(st.binary(max_size=300))
def test_unpacking_random_bytes_raises_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"compressed|cut"):
        sealing.unpack(data, 1000)


@pytest.mark.parametrize("tail", [b"x", bytes(sealing.PAD_TO), bytes(9) + b"\1"])
def test_bytes_after_the_packed_data_are_refused(tail: bytes) -> None:
    with pytest.raises(ValueError, match="more than padding"):
        sealing.unpack(sealing.pack(b"all") + tail, 1000)
