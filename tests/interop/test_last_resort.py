"""A real server whose operator, or whose country, lets the probe pages pass for nobody."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest

from circumvent.tunnels.live import LAST_RESORT
from tests.peers import sing_box, socks
from tests.peers.certificates import Certificate
from tests.peers.client import running_client
from tests.peers.destinations import Destinations
from tests.peers.process import Process, free_port
from tests.peers.services import (
    FAR_ADDRESS,
    FAR_NAME,
    TROJAN,
    VLESS_TLS,
    Endpoint,
    Service,
    carried,
)

WEBSOCKET_TLS = carried("ws")[1]
BLOCKED = "probe.far.test"


@contextmanager
def silent() -> Iterator[int]:
    """A port at which connections are accepted, and nothing is ever said."""
    with socket.create_server((FAR_ADDRESS, 0)) as listener:
        yield listener.getsockname()[1]


def configure(endpoint: Endpoint, rule: dict[str, object]) -> str:
    """A server that does what ``rule`` says with the probe pages, and lets the rest pass."""
    config = sing_box.server_config(endpoint)
    route = {"rules": [{"domain": [BLOCKED], **rule}], "default_domain_resolver": "far"}
    return json.dumps({**config, "route": route})


@pytest.mark.parametrize("blocked", ["refused", "silent"])
@pytest.mark.parametrize("service", [TROJAN, VLESS_TLS, WEBSOCKET_TLS], ids=lambda each: each.over)
def test_users_are_served_and_told_where_the_probe_pages_are_blocked(
    service: Service,
    blocked: str,
    certificate: Certificate,
    destinations: Destinations,
    tmp_path: Path,
) -> None:
    endpoint = Endpoint(service, free_port(), service.new_secret(), certificate)
    file = tmp_path / "config.json"
    with ExitStack() as stack:
        rule: dict[str, object] = {"action": "reject"}
        if blocked == "silent":
            port = stack.enter_context(silent())
            rule = {"outbound": "direct", "override_address": FAR_ADDRESS, "override_port": port}
        file.write_text(configure(endpoint, rule))
        command, folder = [*sing_box.command(), str(file)], tmp_path / "client"
        stack.enter_context(Process(command, tmp_path / "log")).await_port(endpoint.port)
        page = f"http://{BLOCKED}/generate_204"
        client = stack.enter_context(
            running_client(folder, [endpoint.link], page, until="last_resort")
        )
        (tunnel,) = client.status().tunnels
        assert LAST_RESORT in tunnel.warnings
        for _ in range(5):
            with (
                socks.connect(client.port, FAR_NAME, destinations.http_port) as connection,
                socks.get(connection, "/generate_204") as response,
            ):
                assert response.status == HTTPStatus.NO_CONTENT
        assert client.status().tunnels[0].state == "up"
