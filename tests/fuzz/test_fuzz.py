"""A million inputs, guided by coverage: no crash, no misreading, no growth."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from circumvent.errors import BundleError
from circumvent.wire.bundle import format_bundle, make_envelope, open_bundle
from circumvent.wire.dsse import sign
from tests.fuzz.running import fuzz
from tests.fuzz.targets import BUCKET, LIST, NOW, SIGNERS, TARGETS, TRUST

MILLION = 1_000_000
EACH = -(-MILLION // len(TARGETS))

pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_breaks_a_parser(target: str) -> None:
    started = time.monotonic()
    report = fuzz(target, EACH)
    print(
        f"{target}: {report.runs} inputs in {time.monotonic() - started:.0f} s,"
        f" {report.coverage} branches, peak {report.peak_mib} MiB"
    )
    assert not report.failed, report.output
    assert report.runs >= EACH


@pytest.mark.parametrize("is_sealed", [False, True], ids=["open", "sealed"])
def test_no_other_value_of_any_byte_is_taken(is_sealed: bool) -> None:  # noqa: FBT001
    envelope = make_envelope(LIST, BUCKET.public().raw if is_sealed else None)
    for signer in SIGNERS:
        envelope = sign(envelope, signer.raw)
    data = bytearray(format_bundle(envelope))
    bucket = BUCKET.raw if is_sealed else None
    assert open_bundle(bytes(data), TRUST, bucket, NOW) == LIST
    taken = []
    for position, right in enumerate(data):
        for wrong in range(256):
            data[position] = wrong
            with suppress(BundleError):
                open_bundle(bytes(data), TRUST, bucket, NOW)
                taken.append((position, wrong))
        data[position] = right
    print(f"{len(data)} bytes, each with 255 other values: {255 * len(data)} refused")
    assert taken == list(enumerate(data))
