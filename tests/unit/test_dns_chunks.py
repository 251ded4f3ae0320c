"""Bundles as TXT records: whole, in any order, and never a forged chunk."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.wire.base64url import encode_base64url
from circumvent.wire.bundle import MAX_BUNDLE
from circumvent.wire.dns_chunks import (
    CHUNK,
    MANIFEST,
    MAX_CHUNKS,
    join,
    parse_chunk,
    parse_manifest,
    to_records,
    zone_file,
)


def read_back(bundle: bytes) -> bytes:
    records = dict(to_records(bundle))
    labels = parse_manifest(records[MANIFEST]).labels
    return join([parse_chunk(label, records[label]) for label in labels])


@given(st.binary(min_size=1, max_size=4000))
def test_a_bundle_survives_being_cut_and_joined(bundle: bytes) -> None:
    assert read_back(bundle) == bundle


def test_the_largest_bundle_fits() -> None:
    bundle = random.Random(1).randbytes(MAX_BUNDLE)
    assert read_back(bundle) == bundle


def test_a_repeated_chunk_is_one_record() -> None:
    bundle = random.Random(2).randbytes(MAX_BUNDLE)
    assert len({record.label for record in to_records(bundle)}) == len(to_records(bundle))


def test_every_answer_fits_an_unfragmented_datagram() -> None:
    overhead = 12 + 2 * 100 + 16 + 11  # header, names, RR, OPT
    for record in to_records(random.Random(3).randbytes(20_000)):
        assert len(record.text) * 256 / 255 + overhead < 1232


def test_a_forged_chunk_is_refused() -> None:
    (_, one, two, *_) = to_records(random.Random(4).randbytes(3 * CHUNK))
    with pytest.raises(ValueError, match="not the chunk"):
        parse_chunk(one.label, two.text)
    with pytest.raises(ValueError, match="base64"):
        parse_chunk(one.label, b"!" + one.text[1:])


def test_the_case_of_names_does_not_matter() -> None:
    for record in to_records(b"bundle" * 99):
        assert record.label == record.label.lower()


@given(st.binary(max_size=200))
def test_random_text_raises_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_manifest(text)
    with pytest.raises(ValueError, match=r".+"):
        parse_chunk("0" * 16, text)
    with pytest.raises(ValueError, match=r".+"):
        join([text])


@pytest.mark.parametrize("hashes", [0, 9, 11, 10 * (MAX_CHUNKS + 1)])
def test_a_manifest_without_chunks_or_with_too_many_is_refused(hashes: int) -> None:
    with pytest.raises(ValueError, match="no chunks, or more than"):
        parse_manifest(b"cb1 " + encode_base64url(bytes(hashes)).encode())


def test_the_zone_file_has_all_that_a_name_server_needs() -> None:
    zone = zone_file("b.test", b"bundle", serial=7, ttl=300, name_server="ns.test")
    assert zone.startswith("$ORIGIN b.test.\n$TTL 300\n@ IN SOA ns.test. hostmaster.b.test. 7 ")
    assert "\n@ IN NS ns.test.\n" in zone
    assert '\nlist IN TXT "cb1 ' in zone
