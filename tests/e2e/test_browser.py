"""A browser over the client: everything arrives, and the user's side looks up no name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.browser import browse
from tests.peers.certificates import make_certificate
from tests.peers.clients import circumvent_client
from tests.peers.destinations import Destinations, serve_destinations
from tests.peers.process import with_file_over
from tests.peers.resolver import Resolver, recording_resolver
from tests.peers.servers import sing_box_server
from tests.peers.services import FAR_NAME, SHADOWSOCKS, TROJAN

RESOURCES = 100

pytestmark = pytest.mark.timeout(90)


@dataclass(frozen=True, slots=True)
class Near:
    """The user's side: its programs ask a resolver that records its questions."""

    folder: Path
    destinations: Destinations
    resolver: Resolver

    def wrap(self, command: Sequence[str]) -> list[str]:
        return with_file_over("/etc/resolv.conf", self.resolver.resolv_conf, command)

    @property
    def page(self) -> str:
        return f"http://{FAR_NAME}:{self.destinations.http_port}/page/{RESOURCES}"

    def browse(self, proxy_port: int | None) -> str:
        return browse(self.page, self.folder, proxy_port=proxy_port, wrap=self.wrap)


@pytest.fixture
def near(tmp_path: Path) -> Iterator[Near]:
    with serve_destinations(tmp_path) as destinations, recording_resolver(tmp_path) as resolver:
        yield Near(tmp_path, destinations, resolver)


def test_a_page_with_100_resources_loads_without_a_local_lookup(near: Near) -> None:
    certificate = make_certificate(near.folder)
    with (
        sing_box_server(SHADOWSOCKS[0], near.folder, certificate) as first,
        sing_box_server(TROJAN, near.folder, certificate) as second,
        circumvent_client(
            [first.link, second.link], near.folder, near.destinations, wrap=near.wrap
        ) as client,
    ):
        page = near.browse(client.port)

    assert f"<title>seen {RESOURCES}</title>" in page
    assert not [name for name in near.resolver.asked if name.endswith(FAR_NAME)]


def test_without_the_client_the_same_browser_looks_names_up_and_gets_nothing(near: Near) -> None:
    page = near.browse(None)

    assert "<title>seen" not in page
    assert FAR_NAME in near.resolver.asked
