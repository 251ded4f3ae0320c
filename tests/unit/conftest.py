"""What makes the fast tests fast, and keeps what this machine has out of them."""

import asyncio
import contextlib
import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

# To compile all modules anew, with their asserts rewritten, takes as long as half of the tests;
# workers and programs that tests start read what is kept as well.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from hypothesis import HealthCheck, settings  # noqa: E402

from circumvent.state.file import BUSY_SECONDS, Need, Warn  # noqa: E402
from circumvent.state.store import Store  # noqa: E402
from tests.peers.certificates import Certificate, make_certificate  # noqa: E402
from tests.unit.settling_loop import SettlingLoop  # noqa: E402
from tests.virtual.loop import VirtualTimeLoop  # noqa: E402

# `make fuzz` and `make prove` look for more; a deadline, or a limit to the making of examples,
# would time a busy machine and late imports.
settings.register_profile(
    "fast", max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fast")

OpenStore = Callable[..., Store]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """The servers'; whoever needs another one makes it."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def opened() -> Iterator[OpenStore]:
    """Opens stores that are closed when the test ends."""
    with contextlib.ExitStack() as stack:

        def open_store(
            path: Path,
            warn: Warn = warnings.warn,
            need: Need = Need.NOTHING,
            busy_seconds: float = BUSY_SECONDS,
        ) -> Store:
            store = Store(path, warn, need, busy_seconds)
            stack.callback(store.close)
            return store

        yield open_store


@pytest.fixture(autouse=True, scope="module")
def nobody_is_trusted() -> Iterator[None]:
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


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests that are marked so run in virtual time."""
    if item.get_closest_marker("virtual_time") is None:
        return {"real": SettlingLoop}
    return {"virtual": VirtualTimeLoop}
