"""What makes the fast tests fast, and keeps what this machine has out of them."""

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.peers.certificates import Certificate, make_certificate

# `make fuzz` and `make prove` look for more; a deadline, or a limit to the making of examples,
# would time a busy machine and late imports.
settings.register_profile(
    "fast", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fast")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """The servers'; whoever needs another one makes it."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(autouse=True, scope="module")
def _nobody_is_trusted() -> Iterator[None]:
    """No test needs whom the system trusts, and to read it takes 20 ms for each context."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)
        yield


def pytest_collection() -> None:
    """What is imported and collected stays: the collector need not walk over it at all."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
