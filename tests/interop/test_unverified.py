"""A server that nobody vouches for gets another certificate: it is refused until the user agrees.

Over our own TLS, and over OpenSSL where the server speaks TLS 1.2 only.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers import sing_box, socks
from tests.peers.certificates import make_certificate
from tests.peers.client import RunningClient, running_client
from tests.peers.destinations import Destinations
from tests.peers.process import Process, free_port
from tests.peers.services import TROJAN, Endpoint

SECRET = "a-password"


@dataclass(frozen=True, slots=True)
class Place:
    """Where sing-box serves Trojan, with a new certificate and key at each start."""

    folder: Path
    port: int
    version: str

    @property
    def link(self) -> str:
        return f"trojan://{SECRET}@127.0.0.1:{self.port}?sni=any.test&allowInsecure=1"

    @contextmanager
    def serving(self, name: str) -> Iterator[None]:
        folder = self.folder / name
        folder.mkdir()
        endpoint = Endpoint(TROJAN, self.port, SECRET, make_certificate(folder))
        config = json.dumps(sing_box.server_config(endpoint))
        limited = config.replace('"tls": {', f'"tls": {{"max_version": "{self.version}", ')
        file = folder / "config.json"
        file.write_text(limited)
        with Process([*sing_box.command(), str(file)], folder / "log") as process:
            process.await_port(self.port)
            yield


@pytest.mark.parametrize("version", ["1.3", "1.2"])
def test_another_certificate_is_refused_and_told_until_the_user_accepts_it(
    version: str, tmp_path: Path, destinations: Destinations
) -> None:
    place = Place(tmp_path, free_port(), version)
    options = [place.link, "--privacy", "unverified"]
    with contextlib.ExitStack() as stack:
        with place.serving("first"):
            client = stack.enter_context(
                running_client(tmp_path / "client", options, destinations.probe_url)
            )
        with place.serving("renewed"):
            await_that(client, lambda: complaints(client) != [], "told of it")
            (complaint,) = complaints(client)
            server = complaint.partition(":")[0]
            assert "somebody may be in between" in complaint
            await_that(client, lambda: not client.status().tunnels, "gave it up")
            run(client, "servers", "forget-certificate", server)
            await_that(client, lambda: bool(client.status().tunnels), "a tunnel again")
            assert not complaints(client)
    assert "somebody may be in between" in run(client, "why", "--server", server)


def complaints(client: RunningClient) -> list[str]:
    return [each for each in client.status().warnings if "forget-certificate" in each]


def await_that(client: RunningClient, happened: Callable[[], bool], what: str) -> None:
    """Wait for it as a user who tries again and again."""

    def ask() -> bool:
        with contextlib.suppress(OSError, socks.SocksError):
            socks.connect(client.port, "127.0.0.1", 1).close()
        return happened()

    client.process.await_that(ask, what)


def run(client: RunningClient, *words: str) -> str:
    command = [sys.executable, "-m", "circumvent", *words]
    done = subprocess.run(
        command, env=client.environment, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout
