"""Signed bundles: what verifies, and everything that must not."""

import base64
import json
import tracemalloc
import zlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from circumvent.errors import BundleError, Fault
from circumvent.wire import sealing
from circumvent.wire.bundle import (
    MAX_BUNDLE,
    MAX_SKEW,
    OPEN_TYPE,
    Bundle,
    Trust,
    format_bundle,
    make_envelope,
    open_bundle,
)
from circumvent.wire.dsse import Envelope, pre_authentication_encoding, sign

VECTORS = Path(__file__).parent / "vectors"
NOW = 1_800_000_000
LINKS = ("ss://YWVzLTEyOC1nY206c2VjcmV0@192.0.2.1:8388#one", "trojan://secret@a.test:443#two")
BUNDLE = Bundle(7, NOW - 60, NOW + 86400, LINKS, ("https://mirror.test/b", "dns:b.test"))
# One key pair for each signer, made from fixed seeds: failures can be looked at again.
SEEDS = [bytes((number,)) * 32 for number in range(1, 5)]
KEYS = [Ed25519PrivateKey.from_private_bytes(s).public_key().public_bytes_raw() for s in SEEDS]
BUCKET = X25519PrivateKey.from_private_bytes(b"\x09" * 32)
BUCKET_SECRET = BUCKET.private_bytes_raw()
BUCKET_PUBLIC = BUCKET.public_key().public_bytes_raw()
ALICE = Trust((KEYS[0],))


def signed(bundle: Bundle = BUNDLE, *signers: int, bucket: bytes | None = None) -> bytes:
    envelope = make_envelope(bundle, bucket)
    for signer in signers or (0,):
        envelope = sign(envelope, SEEDS[signer])
    return format_bundle(envelope)


def fault(
    data: bytes, trust: Trust = ALICE, *, bucket: bytes | None = None, newest: int = 0
) -> Fault:
    with pytest.raises(BundleError) as caught:
        open_bundle(data, trust, bucket, NOW, newest)
    return caught.value.fault


def test_a_signed_bundle_is_read_back() -> None:
    assert open_bundle(signed(), ALICE, None, NOW) == BUNDLE


def test_the_envelope_is_plain_dsse() -> None:
    """The example of the DSSE protocol, and our own envelope read by hand."""
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    table = json.loads(signed())
    assert table["payloadType"] == OPEN_TYPE
    message = pre_authentication_encoding(OPEN_TYPE, base64.b64decode(table["payload"]))
    key = Ed25519PrivateKey.from_private_bytes(SEEDS[0]).public_key()
    key.verify(base64.b64decode(table["signatures"][0]["sig"]), message)


@pytest.mark.parametrize(("name", "bucket"), [("open", None), ("sealed", BUCKET_SECRET)])
def test_bundles_of_the_first_version_are_read_for_ever(name: str, bucket: bytes | None) -> None:
    data = (VECTORS / f"{name}.bundle").read_bytes()
    assert open_bundle(data, Trust((KEYS[0], KEYS[1]), 2), bucket, NOW) == BUNDLE


@pytest.mark.parametrize("bucket", [None, BUCKET_PUBLIC], ids=["open", "sealed"])
def test_a_change_at_any_byte_is_refused(bucket: bytes | None) -> None:
    data = signed(bucket=bucket)
    for position in range(len(data)):
        altered = bytearray(data)
        altered[position] ^= 1 << position % 8
        with pytest.raises(BundleError) as caught:
            open_bundle(bytes(altered), ALICE, bucket and BUCKET_SECRET, NOW)
        assert caught.value.fault in {Fault.ALTERED, Fault.NOT_A_BUNDLE, Fault.WRONG_KEY}


def test_a_cut_bundle_is_refused() -> None:
    data = signed()
    for end in range(0, len(data), 7):
        assert fault(data[:end]) is Fault.NOT_A_BUNDLE


def test_the_signature_of_an_untrusted_key_does_not_count() -> None:
    assert fault(signed(BUNDLE, 1)) is Fault.WRONG_KEY


def test_a_threshold_counts_different_signers() -> None:
    both = Trust((KEYS[0], KEYS[1], KEYS[2]), threshold=2)
    assert fault(signed(BUNDLE, 0), both) is Fault.THRESHOLD
    assert fault(signed(BUNDLE, 0, 0), both) is Fault.THRESHOLD
    assert fault(signed(BUNDLE, 0, 3), both) is Fault.THRESHOLD
    assert open_bundle(signed(BUNDLE, 2, 0), both, None, NOW) == BUNDLE


def test_a_copied_signature_does_not_count_twice() -> None:
    table = json.loads(signed(BUNDLE, 0))
    table["signatures"] *= 2
    copied = json.dumps(table, separators=(",", ":")).encode()
    assert fault(copied, Trust((KEYS[0], KEYS[1]), 2)) is Fault.NOT_A_BUNDLE


def test_a_surplus_signature_must_be_good_too() -> None:
    table = json.loads(signed(BUNDLE, 0, 3))
    table["signatures"][1]["sig"] = table["signatures"][0]["sig"]
    altered = json.dumps(table, separators=(",", ":")).encode()
    assert open_bundle(signed(BUNDLE, 0, 3), ALICE, None, NOW) == BUNDLE
    assert fault(altered) is Fault.ALTERED


def test_an_expired_bundle_is_refused() -> None:
    old = changed(BUNDLE, issued=NOW - 10 * 86400, expires=NOW - 3 * 86400)
    with pytest.raises(BundleError, match=r"expired .* \(3 days ago\)"):
        open_bundle(signed(old), ALICE, None, NOW)


def test_a_clock_that_is_a_little_behind_is_only_reported() -> None:
    bundle = changed(BUNDLE, issued=NOW + 7200, expires=NOW + 86400)
    assert open_bundle(signed(bundle), ALICE, None, NOW).clock_behind(NOW) == 7200
    assert BUNDLE.clock_behind(NOW) == 0


def test_a_bundle_from_the_far_future_is_refused() -> None:
    bundle = changed(BUNDLE, issued=NOW + MAX_SKEW + 1, expires=NOW + 9 * 86400)
    assert fault(signed(bundle)) is Fault.NOT_YET


def test_an_older_version_is_refused_and_the_same_is_not() -> None:
    assert fault(signed(), newest=8) is Fault.ROLLED_BACK
    assert open_bundle(signed(), ALICE, None, NOW, 7) == BUNDLE


def test_only_the_bucket_reads_a_sealed_bundle() -> None:
    data = signed(bucket=BUCKET_PUBLIC)
    assert open_bundle(data, ALICE, BUCKET_SECRET, NOW) == BUNDLE
    assert fault(data) is Fault.NOT_FOR_YOU
    assert fault(data, bucket=b"\x08" * 32) is Fault.NOT_FOR_YOU


def test_a_sealed_bundle_hides_its_entries_and_their_number() -> None:
    one, many = (
        changed(BUNDLE, entries=tuple(f"trojan://s{i}@192.0.2.{i}:443" for i in range(count)))
        for count in (1, 20)
    )
    sizes = {len(signed(bundle, bucket=BUCKET_PUBLIC)) for bundle in (one, many)}
    assert len(sizes) == 1
    for part in (b"192.0.2", b"trojan", b"mirror.test"):
        assert part not in base64.b64decode(json.loads(signed(bucket=BUCKET_PUBLIC))["payload"])


def test_next_keys_count_when_old_and_new_ones_have_signed() -> None:
    bundle = changed(BUNDLE, next_trust=Trust((KEYS[2], KEYS[3]), 2))
    data = signed(bundle, 0, 2, 3)
    trust = open_bundle(data, ALICE, None, NOW).next_trust
    assert trust is not None
    assert open_bundle(data, trust, None, NOW) == bundle
    assert fault(signed(changed(bundle, version=8), 0), trust) is Fault.WRONG_KEY


def test_next_keys_that_have_not_signed_are_refused() -> None:
    bundle = changed(BUNDLE, next_trust=Trust((KEYS[2], KEYS[3]), 2))
    assert fault(signed(bundle, 0)) is Fault.THRESHOLD
    assert fault(signed(bundle, 0, 2)) is Fault.THRESHOLD
    assert fault(signed(bundle, 2, 3)) is Fault.WRONG_KEY


def test_with_an_invite_to_a_bucket_an_open_bundle_is_refused() -> None:
    assert fault(signed(), bucket=BUCKET_SECRET) is Fault.NOT_FOR_YOU


def test_a_bundle_is_never_larger_than_its_limit() -> None:
    assert fault(b" " * (MAX_BUNDLE + 1)) is Fault.TOO_LARGE


def test_a_compression_bomb_is_refused() -> None:
    bomb = zlib.compress(bytes(40_000_000), 9)
    tracemalloc.start()
    assert fault(format_bundle(sign(Envelope(OPEN_TYPE, bomb), SEEDS[0]))) is Fault.BROKEN
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b'{"version":1}',
        b'{"version":1,"version":2,"issued":1,"expires":2,"entries":[]}',
        b'{"version":1.0,"issued":1,"expires":2,"entries":[]}',
        b'{"version":1e400,"issued":1,"expires":2,"entries":[]}',
        b'{"version":-1,"issued":1,"expires":2,"entries":[]}',
        b'{"version":99999999999999999999,"issued":1,"expires":2,"entries":[]}',
        b'{"version":1,"issued":2,"expires":1,"entries":[]}',
        b'{"version":1,"issued":1,"expires":2,"entries":[""]}',
        b'{"version":1,"issued":1,"expires":2,"entries":[7]}',
        b'{"version":1,"issued":1,"expires":2,"entries":[],"more":1}',
        b'{"version":1,"issued":1,"expires":2,"entries":[],"trust":{"keys":[]}}',
        b'{"version":1,"issued":1,"expires":2,"entries":[],"trust":{"keys":["!"]}}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_malformed_payload_is_refused_as_a_whole(payload: bytes) -> None:
    envelope = sign(Envelope(OPEN_TYPE, sealing.pack(payload), ()), SEEDS[0])
    assert fault(format_bundle(envelope)) is Fault.BROKEN


@pytest.mark.parametrize(
    ("field", "why"),
    [(b'"s3cret":1', "has an unknown field"), (b'"entries":[7]', "Expected `str`, got `int`")],
)
def test_an_error_says_what_is_wrong_and_quotes_no_name(field: bytes, why: str) -> None:
    payload = b'{"version":1,"issued":1,"expires":2,"entries":[],' + field + b"}"
    envelope = sign(Envelope(OPEN_TYPE, sealing.pack(payload), ()), SEEDS[0])
    with pytest.raises(BundleError, match=why) as caught:
        open_bundle(format_bundle(envelope), ALICE, None, NOW)
    assert "s3cret" not in str(caught.value)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_random_bytes_are_no_bundle(data: bytes) -> None:
    assert fault(data) is Fault.NOT_A_BUNDLE


@pytest.mark.parametrize(
    ("keys", "threshold"),
    [((), 1), ((KEYS[0], KEYS[0]), 1), ((KEYS[0],), 2), ((KEYS[0],), 0), ((b"short",), 1)],
)
def test_a_trust_that_cannot_be_met_is_refused(keys: tuple[bytes, ...], threshold: int) -> None:
    with pytest.raises(ValueError, match=r"keys|bytes|threshold"):
        Trust(keys, threshold)
