"""What makes the fast tests fast, and keeps what this machine has out of them."""

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# `make fuzz` and `make prove` look for more; a deadline would time a busy machine and late imports.
settings.register_profile("fast", max_examples=40, deadline=None)
settings.load_profile("fast")


@pytest.fixture(autouse=True, scope="module")
def _nobody_is_trusted() -> Iterator[None]:
    """No test needs whom the system trusts, and to read it takes 20 ms for each context."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)
        yield


def pytest_collection_finish() -> None:
    """What was imported stays: the collector need not walk over it again and again."""
    gc.freeze()
