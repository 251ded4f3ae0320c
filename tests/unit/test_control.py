"""The control socket: one request, one answer, for this user only."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import stat
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from circumvent.errors import ConfigError, LocalError
from circumvent.status import control
from circumvent.status.snapshot import MemoryStatus, Status, TunnelStatus

STATUS = Status(
    listen="127.0.0.1:1080",
    network="00ff",
    privacy="encrypted",
    memory=MemoryStatus(budget=16, leased=1, charged=2, high_water=3, arena=16, arena_high_water=1),
    tunnels=(TunnelStatus("trojan", "a1b2c3", "Ann", "up", None, 1, 2, 3, 4.0, ("insecure",)),),
    problems=("broken",),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "control.sock"


async def raw(path: Path, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line)
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


def serving(*places: Path) -> AbstractAsyncContextManager[None]:
    return control.serve(places, lambda: STATUS, pytest.fail)


def nowhere(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "control.sock"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def spoil(path: Path) -> None:
    """Put a directory in the place of the socket: it cannot be unlinked."""
    path.unlink()
    path.mkdir()


def is_there(path: Path) -> bool:
    return path.exists()


async def test_the_answer_is_the_whole_status(path: Path) -> None:
    async with serving(path):
        assert await asyncio.to_thread(control.ask, [path]) == STATUS


async def test_anything_that_speaks_json_may_ask(path: Path) -> None:
    async with serving(path):
        answer = json.loads(await raw(path, b'{"command":"status"}\n'))
    assert answer["status"]["tunnels"][0]["server"] == "a1b2c3"


@pytest.mark.parametrize("line", [b"hello\n", b'{"command":"stop"}\n', b'{"a":1}\n', b"\n"])
async def test_a_wrong_request_is_answered_with_an_error(path: Path, line: bytes) -> None:
    async with serving(path):
        assert json.loads(await raw(path, line))["error"]


async def test_an_endless_line_is_cut_off(path: Path) -> None:
    async with serving(path):
        assert await raw(path, b"x" * 20000) == b""
        assert await asyncio.to_thread(control.ask, [path]) == STATUS


async def test_only_the_user_can_connect(path: Path) -> None:
    async with serving(path):
        assert mode_of(path) == 0o600
        assert mode_of(path.parent) == 0o700


async def test_the_socket_is_removed_when_the_client_stops(path: Path) -> None:
    async with serving(path):
        pass
    assert not is_there(path)


async def test_the_socket_of_a_killed_client_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    async with serving(path):
        assert await asyncio.to_thread(control.ask, [path]) == STATUS


async def test_a_second_client_is_refused_and_the_first_goes_on(path: Path) -> None:
    async with serving(path):
        with pytest.raises(ConfigError, match="another circumvent is running") as caught:
            async with serving(path):
                pass
        assert caught.value.errno == errno.EADDRINUSE
        assert await asyncio.to_thread(control.ask, [path]) == STATUS


def test_without_a_client_the_error_says_what_to_do(path: Path) -> None:
    with pytest.raises(LocalError, match="not running; start it with: circumvent run"):
        control.ask([path])


async def test_a_path_too_long_for_a_socket_is_reached_through_its_directory(
    tmp_path: Path,
) -> None:
    path = tmp_path / ("x" * 120) / "control.sock"
    async with serving(path):
        assert mode_of(path) == 0o600
        assert await asyncio.to_thread(control.ask, [path]) == STATUS
        with pytest.raises(ConfigError, match="another circumvent is running"):
            async with serving(path):
                pass
    assert not is_there(path)


async def test_where_the_first_place_fails_the_second_serves(path: Path, tmp_path: Path) -> None:
    places = [nowhere(tmp_path), path]
    async with serving(*places):
        assert await asyncio.to_thread(control.ask, places) == STATUS
        assert await asyncio.to_thread(control.ask, [path]) == STATUS


async def test_a_client_at_the_second_place_is_another_one_too(path: Path, tmp_path: Path) -> None:
    async with serving(path):
        with pytest.raises(ConfigError, match="another circumvent is running"):
            async with serving(tmp_path / "other.sock", path):
                pass


async def test_without_any_place_the_client_goes_on_with_one_warning(tmp_path: Path) -> None:
    told: list[str] = []
    place = nowhere(tmp_path)
    async with control.serve([place], lambda: STATUS, told.append):
        (warning,) = told
    assert str(place) in warning
    assert "File exists" in warning


async def test_a_socket_that_cannot_be_removed_is_left(path: Path) -> None:
    async with serving(path):
        spoil(path)
    assert is_there(path)
