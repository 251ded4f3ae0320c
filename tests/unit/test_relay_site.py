"""A cover site of a directory shows its files and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import aiohttp
import pytest

from circumvent.api import ByteStream
from circumvent.errors import StreamResetError
from circumvent.relay.cover.files import PIECE
from circumvent.relay.cover.pipe import HIGH_WATER, CoverSitePipe
from circumvent.relay.cover.site import serve_directory
from circumvent.relay.metrics import serve_metrics
from circumvent.relay.status import RelayStatus, UserStatus, metrics
from circumvent.status.snapshot import MemoryStatus
from circumvent.testing.steps import read_all, read_once, write_all
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
    (site / "linked").mkdir()
    (site / "linked" / "index.html").symlink_to(tmp_path / "outside")
    (site / "also").symlink_to(site / ".secret")
    (site / "packed.txt").write_text("plain")
    (site / "packed.txt.gz").symlink_to(tmp_path / "outside")
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
        "/linked",
        "/linked/index.html",
        "/also",
        "/packed.txt",
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
async def test_nothing_else_is_shown(root: Path, path: str) -> None:
    status, text = await get(root, path)
    assert status in (400, 404)
    assert text not in ("hidden", "outside")


async def get(root: Path, path: str) -> tuple[int, str]:
    async with serve_directory(root) as site:
        pipe = await site.connect()
        await write_all(pipe, request(path))
        head, _, body = (await read_all(pipe)).partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def request(path: str, connection: str = "close") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n".encode()


async def read_at_least(pipe: ByteStream, at_least: int) -> bytes:
    data = b""
    while len(data) < at_least:
        data += await read_once(pipe)
    return data


async def test_a_large_file_waits_for_its_reader(root: Path) -> None:
    content = random.Random(1).randbytes(600_000)
    (root / "large").write_bytes(content)
    async with serve_directory(root) as site:
        pipe = await site.connect()
        assert isinstance(pipe, CoverSitePipe)
        await write_all(pipe, request("/large"))
        await pipe.wait_readable()
        await asyncio.sleep(0.02)
        assert pipe.waiting_bytes <= HIGH_WATER + PIECE + 1024  # and the head
        assert (await read_all(pipe)).endswith(b"\r\n\r\n" + content)


async def test_one_connection_serves_many_requests(root: Path) -> None:
    async with serve_directory(root) as site:
        pipe = await site.connect()
        for _ in range(3):
            await write_all(pipe, request("/", "keep-alive"))
            received = b""
            while not received.endswith(b"\r\n\r\nhome"):
                received += await read_at_least(pipe, 1)
        pipe.abort()


async def test_a_visitor_that_sends_no_whole_head_is_closed(root: Path) -> None:
    async with serve_directory(root, head_seconds=0.02) as site:
        silent, slow = await site.connect(), await site.connect()
        await write_all(slow, b"GET / HTTP/1.1\r\nHost:")
        async with asyncio.timeout(20):
            for pipe in (silent, slow):
                with contextlib.suppress(StreamResetError):
                    assert await read_all(pipe) == b""


async def test_when_the_visitor_ends_the_site_ends(root: Path) -> None:
    async with serve_directory(root) as site:
        pipe = await site.connect()
        pipe.write_eof()
        assert await read_all(pipe) == b""
        with pytest.raises(StreamResetError):
            await write_all(pipe, b"x")


async def test_a_visitor_may_leave_in_the_middle_of_a_file(root: Path) -> None:
    (root / "large").write_bytes(bytes(600_000))
    async with serve_directory(root) as site:
        pipe = await site.connect()
        await write_all(pipe, request("/large"))
        await read_at_least(pipe, 100_000)
        pipe.abort()


async def test_a_body_that_the_site_does_not_want_is_refused(root: Path) -> None:
    async with serve_directory(root) as site:
        pipe = await site.connect()
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"
        await write_all(pipe, head)
        assert (await read_at_least(pipe, 12)).startswith(b"HTTP/1.1 405")
        pipe.abort()


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
