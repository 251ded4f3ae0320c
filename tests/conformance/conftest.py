"""What makes the fast tests fast, and the certificate that they share: see ``tests/unit``."""

from tests.unit.conftest import (
    certificate,
    nobody_is_trusted,
    pytest_asyncio_loop_factories,
    pytest_collection,
    pytest_collection_finish,
)

__all__ = [
    "certificate",
    "nobody_is_trusted",
    "pytest_asyncio_loop_factories",
    "pytest_collection",
    "pytest_collection_finish",
]
