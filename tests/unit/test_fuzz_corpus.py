"""Every input that the fuzzer found worth keeping, once more."""

import pytest

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs_break_no_parser(target: str) -> None:
    inputs = corpus.load(target)
    for data in inputs:
        TARGETS[target](data)
    assert inputs
