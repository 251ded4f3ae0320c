"""A stream that ends and one that is cut, told apart through every real server that can be.

VLESS without TLS has neither records nor a close message, so a cut looks like the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.peers import socks
from tests.peers.certificates import Certificate
from tests.peers.clients import circumvent_client
from tests.peers.destinations import Destinations
from tests.peers.servers import ALL, ServerMaker
from tests.peers.services import SHADOWSOCKS, TROJAN, VLESS_TLS, Service
from tests.peers.tcp_path import TcpPath, tcp_path

TELLING = [each for each in ALL if each[2] in (SHADOWSOCKS[0], TROJAN, VLESS_TLS)]
SIZE = 300_000
TIMES = 5
# Inside of the first chunk: behind a whole one Shadowsocks cannot tell.
CUT_AFTER = {"shadowsocks": 60, "trojan": 100_000, "vless": 100_000}


@dataclass(frozen=True, slots=True)
class Way:
    """The client's port, and somebody between it and its only server."""

    service: Service
    port: int
    between: TcpPath
    destinations: Destinations

    def download(self) -> bytes:
        """What comes until the end; raises ConnectionResetError where there is none."""
        with socks.connect(self.port, "127.0.0.1", self.destinations.http_port) as connection:
            request = f"GET /bytes/{SIZE} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            data = b""
            while more := connection.recv(socks.CHUNK):
                data += more
        return data.partition(b"\r\n\r\n")[2]


@pytest.fixture(
    scope="module",
    params=TELLING,
    ids=[f"{peer}-{service.transport}" for peer, _, service in TELLING],
)
def way(
    request: pytest.FixtureRequest,
    folder: Path,
    certificate: Certificate,
    destinations: Destinations,
) -> Iterator[Way]:
    make: ServerMaker
    service: Service
    _, make, service = request.param
    with (
        make(service, folder, certificate) as server,
        tcp_path(server.endpoint.port) as between,
        circumvent_client(
            [replace(server.endpoint, port=between.port).link], folder, destinations
        ) as client,
    ):
        yield Way(service, client.port, between, destinations)


def test_a_whole_download_ends_and_one_that_was_cut_is_reset(way: Way) -> None:
    for _ in range(TIMES):
        assert len(way.download()) == SIZE
    way.between.cut_after = CUT_AFTER[way.service.transport]
    with pytest.raises(ConnectionResetError):
        way.download()
