"""A browser over the client: an HTTPS page arrives, and the user's side looks up no name."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.browser import browse
from tests.peers.certificates import make_certificate
from tests.peers.clients import circumvent_client
from tests.peers.destinations import Destinations, serve_destinations
from tests.peers.nginx import SITE, nginx
from tests.peers.process import with_file_over
from tests.peers.resolver import Resolver, recording_resolver
from tests.peers.servers import (
    ServerMaker,
    mihomo_server,
    sing_box_behind_nginx,
    sing_box_server,
)
from tests.peers.services import (
    FAR_NAME,
    SHADOWSOCKS,
    TROJAN,
    VLESS_REALITY_VISION,
    VLESS_WEBSOCKET_TLS,
    Service,
)

RESOURCES = 100
Servers = tuple[tuple[ServerMaker, Service], ...]

pytestmark = pytest.mark.timeout(90)


@dataclass(frozen=True, slots=True)
class Near:
    """The user's side: its programs ask a resolver that records its questions."""

    folder: Path
    destinations: Destinations
    resolver: Resolver
    site_port: int

    def wrap(self, command: Sequence[str]) -> list[str]:
        return with_file_over("/etc/resolv.conf", self.resolver.resolv_conf, command)

    @property
    def page(self) -> str:
        return f"https://{FAR_NAME}:{self.site_port}/page/{RESOURCES}"

    def browse(self, proxy_port: int | None) -> str:
        return browse(self.page, self.folder, proxy_port=proxy_port, wrap=self.wrap)


@pytest.fixture
def near(tmp_path: Path) -> Iterator[Near]:
    site = tmp_path / "site"
    site.mkdir()
    certificate = make_certificate(site, FAR_NAME)
    with serve_destinations(tmp_path) as destinations, recording_resolver(tmp_path) as resolver:
        pages = SITE.format(path="/", port=destinations.http_port, more="")
        with nginx(site, certificate, {FAR_NAME: pages}) as port:
            yield Near(tmp_path, destinations, resolver, port)


@pytest.mark.parametrize(
    "servers",
    [
        ((sing_box_server, SHADOWSOCKS[0]), (sing_box_server, TROJAN)),
        ((mihomo_server, VLESS_REALITY_VISION),),
        ((sing_box_behind_nginx, VLESS_WEBSOCKET_TLS),),
    ],
    ids=["shadowsocks and trojan", "reality and vision", "websocket behind nginx"],
)
def test_a_page_with_100_resources_loads_without_a_local_lookup(
    near: Near, servers: Servers
) -> None:
    certificate = make_certificate(near.folder)
    with ExitStack() as stack:
        links = [
            stack.enter_context(make(service, near.folder, certificate)).link
            for make, service in servers
        ]
        client = stack.enter_context(
            circumvent_client(links, near.folder, near.destinations, wrap=near.wrap)
        )
        page = near.browse(client.port)

    assert f"<title>seen {RESOURCES}</title>" in page
    assert not [name for name in near.resolver.asked if name.endswith(FAR_NAME)]


def test_without_the_client_the_same_browser_looks_names_up_and_gets_nothing(near: Near) -> None:
    page = near.browse(None)

    assert "<title>seen" not in page
    assert FAR_NAME in near.resolver.asked
