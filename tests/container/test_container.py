"""The image as an orchestrator runs it: not root, read-only, in 50 MB, healthy by its traffic."""

from __future__ import annotations

import hashlib
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.container.image import MEMORY, USER, Container, Podman, built_image
from tests.peers.certificates import make_certificate
from tests.peers.destinations import Destinations, pattern_digest, serve_destinations
from tests.peers.process import free_port
from tests.peers.servers import sing_box_server
from tests.peers.services import TROJAN, Server

DOOR_USER, DOOR_PASSWORD = "reader", "a long password"
SIZE = 50_000_000
HEALTHY_SECONDS = 40.0
CONFIG_ERROR = 3  # documented in `circumvent --help`

pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the container runs: a site, a server, an inbound's port and a configuration."""

    site: Destinations
    server: Server
    port: int
    config: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CIRCUMVENT_LISTEN": f"0.0.0.0:{self.port}",
            "CIRCUMVENT_LINKS": self.server.link,
        }

    def fetch(self, size: int) -> str:
        """The SHA-256 of what comes through the inbound, with its password."""
        secret = DOOR_PASSWORD.replace(" ", "%20")
        proxy = f"http://{DOOR_USER}:{secret}@127.0.0.1:{self.port}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
        digest = hashlib.sha256()
        url = f"http://127.0.0.1:{self.site.http_port}/bytes/{size}"
        with opener.open(url, timeout=30) as answer:
            while piece := answer.read(1 << 16):
                digest.update(piece)
        return digest.hexdigest()


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with built_image(tmp_path_factory.mktemp("image")) as podman:
        yield podman


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with (
        serve_destinations(tmp_path) as site,
        sing_box_server(TROJAN, tmp_path, make_certificate(tmp_path)) as server,
    ):
        yield Place(site, server, free_port(), write_config(tmp_path / "etc", site))


def write_config(folder: Path, site: Destinations) -> Path:
    """A configuration file and the secret that it names, as one mounts them."""
    folder.mkdir()
    password = folder / "password"
    password.write_text(DOOR_PASSWORD)
    password.chmod(0o600)
    os.chown(password, USER, USER)
    (folder / "circumvent.toml").write_text(
        f'user = "{DOOR_USER}"\npassword_file = "password"\nprobe_urls = ["{site.probe_url}"]\n'
    )
    return folder


def await_that(condition: Callable[[], bool], container: Container) -> None:
    deadline = time.monotonic() + HEALTHY_SECONDS
    while not condition():
        assert time.monotonic() < deadline, container.log
        time.sleep(0.5)


def test_it_carries_traffic_within_its_limits_and_stops_in_order(
    podman: Podman, place: Place
) -> None:
    with podman.run("carries", place.environment, place.config) as container:
        await_that(container.is_healthy, container)

        assert place.fetch(SIZE) == pattern_digest(SIZE)
        assert container.inspect("{{.HostConfig.ReadonlyRootfs}}") == "true"
        assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}" in container.read("/proc/1/status")
        assert "VmSwap:\t       0 kB" in container.read("/proc/1/status")
        peak = peak_memory(container)
        print(f"peak memory of the cgroup: {peak / 1e6:.1f} MB of {MEMORY / 1e6:.0f} MB")
        assert peak <= MEMORY
        assert container.inspect("{{.State.OOMKilled}}") == "false"
        assert container.stop() == 0


def test_it_is_unhealthy_when_no_traffic_passes(podman: Podman, place: Place) -> None:
    with podman.run("sick", place.environment, place.config) as container:
        await_that(container.is_healthy, container)
        place.server.process.kill()

        await_that(lambda: not container.is_healthy(), container)
        assert container.inspect("{{.State.Running}}") == "true"


def test_it_refuses_to_serve_the_network_without_a_password(podman: Podman, place: Place) -> None:
    (place.config / "circumvent.toml").unlink()

    with podman.run("open", place.environment, place.config) as container:
        await_that(lambda: container.inspect("{{.State.Running}}") == "false", container)

        assert container.inspect("{{.State.ExitCode}}") == str(CONFIG_ERROR)
        assert "password" in container.log


def peak_memory(container: Container) -> int:
    """The most that its control group ever held, in bytes, page cache included."""
    groups = Path(f"/proc/{container.inspect('{{.State.Pid}}')}/cgroup").read_text()
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            place = Path("/sys/fs/cgroup/memory") / path.lstrip("/")
            return int((place / "memory.max_usage_in_bytes").read_text())
        if not controllers:
            peak = Path("/sys/fs/cgroup") / path.lstrip("/") / "memory.peak"
            if peak.exists():
                return int(peak.read_text())
    raise AssertionError("the container has no memory control group")
