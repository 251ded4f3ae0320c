"""One client over one real server at a time, and the table of what was seen."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.matrix import Matrix, Route
from tests.peers.certificates import Certificate, make_certificate
from tests.peers.clients import circumvent_client
from tests.peers.destinations import ROOT, Destinations, serve_destinations
from tests.peers.servers import ALL, ServerMaker
from tests.peers.services import Service

TABLE = ROOT / "docs" / "interop.md"
WRITE = "--write-interop"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(WRITE, action="store_true", help="write what was seen to docs/interop.md")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interop")


@pytest.fixture(scope="session")
def certificate(folder: Path) -> Certificate:
    return make_certificate(folder)


@pytest.fixture(scope="session")
def destinations(folder: Path) -> Iterator[Destinations]:
    with serve_destinations(folder) as running:
        yield running


@pytest.fixture(scope="session")
def matrix(request: pytest.FixtureRequest) -> Iterator[Matrix]:
    seen = Matrix()
    yield seen
    if request.config.getoption(WRITE, default=False):
        TABLE.write_text(seen.replace_in(TABLE.read_text()))


@pytest.fixture(
    scope="session",
    params=ALL,
    ids=[f"{peer}-{service.transport}-{service.over}" for peer, _, service in ALL],
)
def route(
    request: pytest.FixtureRequest,
    folder: Path,
    certificate: Certificate,
    destinations: Destinations,
) -> Iterator[Route]:
    """The client, running over exactly one server."""
    peer: str
    make: ServerMaker
    service: Service
    peer, make, service = request.param
    options = () if service.security or service.cipher else ("--privacy", "plain")
    with (
        make(service, folder, certificate) as server,
        circumvent_client([server.link], folder, destinations, *options) as client,
    ):
        yield Route(peer, service, client.port, destinations)
