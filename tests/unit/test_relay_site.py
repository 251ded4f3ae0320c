"""The cover site of a directory shows its files and nothing else."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from circumvent.relay.metrics import serve_metrics
from circumvent.relay.site import serve_directory
from circumvent.relay.status import RelayStatus, UserStatus, metrics
from circumvent.status import MemoryStatus
from circumvent.wire.address import Destination
from tests.peers.process import free_port


@pytest.fixture
def root(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "index.html").write_text("home")
    (site / "sub" / "index.html").write_text("sub")
    (site / "a b.css").write_text("style")
    (site / ".secret").write_text("hidden")
    (site / "empty").mkdir()
    (tmp_path / "outside").write_text("outside")
    (site / "link").symlink_to(tmp_path / "outside")
    return site


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", "home"),
        ("/index.html", "home"),
        ("/sub", "sub"),
        ("/sub/", "sub"),
        ("/a%20b.css", "style"),
        ("/?q=1", "home"),
    ],
)
async def test_files_are_shown(root: Path, path: str, body: str) -> None:
    status, text = await get(root, path)
    assert (status, text) == (200, body)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/.secret",
        "/link",
        "/empty/",
        "/../outside",
        "/%2e%2e/outside",
        "/sub/..%2f..%2foutside",
        "/%00",
        "/" + "x" * 300,
    ],
)
async def test_nothing_else_is(root: Path, path: str) -> None:
    status, text = await get(root, path)
    assert status in (400, 404)
    assert text not in ("hidden", "outside")


async def get(root: Path, path: str) -> tuple[int, str]:
    from yarl import URL  # noqa: PLC0415 - as it is, not normalized

    async with serve_directory(root) as place, aiohttp.ClientSession() as session:
        url = URL(f"http://{place}{path}", encoded=True)
        async with session.get(url) as response:
            return response.status, await response.text()


async def test_metrics_are_prometheus_text_and_name_nobody() -> None:
    status = RelayStatus(
        listen="127.0.0.1:443",
        state="up",
        visitors=1,
        visits=5,
        knocks=2,
        bytes_up=10,
        bytes_down=20,
        refused={"forbidden": 3},
        memory=MemoryStatus(100, 10, 20, 50, 100, 40),
        users=(UserStatus("anna", 1, 3, 7, 4, 5), UserStatus("ben", 1, 2, 1, 6, 15)),
    )
    place = Destination("127.0.0.1", free_port())
    async with (
        serve_metrics(place, lambda: metrics(status)),
        aiohttp.ClientSession() as session,
        session.get(f"http://{place}/metrics") as response,
    ):
        assert response.content_type == "text/plain"
        text = await response.text()
    lines = text.splitlines()
    assert "# TYPE circumvent_relay_bytes_total counter" in lines
    assert 'circumvent_relay_bytes_total{direction="down"} 20' in lines
    assert "circumvent_relay_carriers 5" in lines
    assert "circumvent_relay_streams 8" in lines
    assert 'circumvent_relay_refused_total{reason="forbidden"} 3' in lines
    assert "anna" not in text
