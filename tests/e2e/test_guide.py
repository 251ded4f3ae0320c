"""Follows the guide for plugin writers step by step: its files, distribution and command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers import sing_box, socks
from tests.peers.clients import circumvent_client
from tests.peers.destinations import pattern_digest, serve_destinations
from tests.peers.process import PeerError, Process, free_port

GUIDE = Path(__file__).parents[2] / "docs" / "writing-a-plugin.md"
FILE = re.compile(r"^```[a-z]+ (?P<name>[\w.]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
DISTRIBUTION = "circumvent-connect"
SIZE = 1_000_000

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files that the guide shows."""
    folder = tmp_path / DISTRIBUTION
    folder.mkdir()
    for match in FILE.finditer(GUIDE.read_text()):
        (folder / match["name"]).write_text(match["text"])
    return folder


@pytest.fixture
def fresh_python(tmp_path: Path) -> Path:
    """An environment of its own that also sees what this one has installed."""
    home = tmp_path / "fresh"
    venv.create(home, symlinks=True)
    (site_packages,) = home.glob("lib/python*/site-packages")
    shared = sysconfig.get_path("purelib")
    (site_packages / "shared.pth").write_text(f"import site; site.addsitedir({shared!r})\n")
    return home / "bin" / "python"


def install(python: Path, project: Path) -> None:
    """Build and install it without a network: the build backend is installed here."""
    options = ["--no-build-isolation", "--no-index", "--no-deps", "--quiet"]
    command = [str(python), "-m", "pip", "install", *options, str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    if done.returncode:
        raise PeerError(f"pip install failed:\n{done.stderr}")


@contextmanager
def http_proxy(folder: Path) -> Iterator[str]:
    """sing-box as an HTTP proxy with a password; gives its link."""
    port = free_port()
    inbound = {
        "type": "http",
        "listen": "127.0.0.1",
        "listen_port": port,
        "users": [{"username": "user", "password": "password"}],
    }
    config = folder / "http-proxy.json"
    config.write_text(json.dumps({"inbounds": [inbound], "outbounds": [sing_box.DIRECT]}))
    with Process([*sing_box.command(), str(config)], folder / "http-proxy.log") as process:
        process.await_port(port)
        yield f"connect://user:password@127.0.0.1:{port}#guide"


def test_the_plugin_of_the_guide_installs_and_carries_data(
    project: Path, fresh_python: Path, tmp_path: Path
) -> None:
    install(fresh_python, project)

    def with_fresh_python(command: Sequence[str]) -> Sequence[str]:
        return [str(fresh_python) if word == sys.executable else word for word in command]

    config = project / "circumvent.toml"
    with (
        serve_destinations(tmp_path) as site,
        http_proxy(tmp_path) as link,
        circumvent_client(
            [link], tmp_path, site, "--config", str(config), wrap=with_fresh_python
        ) as client,
    ):
        with socks.connect(client.port, "127.0.0.1", site.http_port) as stream:
            assert socks.download(stream, SIZE) == pattern_digest(SIZE)
        with socks.connect(client.port, "::1", site.http_port) as stream:
            assert socks.upload(stream, SIZE) == pattern_digest(SIZE)


def test_the_tests_of_the_guide_pass(project: Path, fresh_python: Path) -> None:
    install(fresh_python, project)
    command = [str(fresh_python), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--override-ini", "asyncio_mode=auto", "test_circumvent_connect.py"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=90, cwd=project
    )
    assert not done.returncode, done.stdout
    assert " passed" in done.stdout


def test_it_is_unknown_to_an_environment_that_did_not_install_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "circumvent", "servers", "test", "connect://127.0.0.1:9"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={"HOME": str(tmp_path)},
        cwd=GUIDE.parents[1],
    )

    assert done.returncode != 0
    assert "connect" in done.stderr
