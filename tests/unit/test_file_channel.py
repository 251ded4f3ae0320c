"""Bundles that somebody brought: files, directories, and what lies around in them."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO

import pytest

from circumvent.api import ChannelError, Fetch, LinkError, Verdict
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.wire.bundle import MAX_BUNDLE
from circumvent_plugins.file_channel import MAX_FILES, FileChannel


def request(source: str, notes: dict[str, str] | None = None) -> Fetch:
    account = Memory(1 << 20).account("test")
    return Fetch(source, NetDialer(TlsClient()), account, {} if notes is None else notes)


async def everything(source: str) -> Sequence[bytes]:
    return [data async for data in FileChannel().fetch(request(source))]


async def verdict(source: str) -> Verdict:
    with pytest.raises(ChannelError) as caught:
        await everything(source)
    return caught.value.verdict


def drop(folder: Path, name: str, data: bytes, at: int) -> Path:
    path = folder / name
    path.write_bytes(data)
    os.utime(path, (at, at))
    return path


async def test_a_file_is_read(tmp_path: Path) -> None:
    path = drop(tmp_path, "a b.bundle", b"data", 1)
    assert await everything(f"file:{path}") == [b"data"]
    assert await everything(f"file://{str(path).replace(' ', '%20')}") == [b"data"]


async def test_of_a_directory_the_newest_come_first(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 2):
        drop(tmp_path, f"b{number}", b"%d" % number, at=100 + number)
    (tmp_path / "folder").mkdir()
    assert await everything(f"file:{tmp_path}") == [b"%d" % n for n in range(MAX_FILES + 1, 1, -1)]


async def test_a_file_that_cannot_be_one_does_not_hide_the_others(tmp_path: Path) -> None:
    drop(tmp_path, "huge", bytes(MAX_BUNDLE + 1), at=9)
    drop(tmp_path, "good", b"good", at=1)
    fetch = FileChannel().fetch(request(f"file:{tmp_path}"))
    async with aclosing(fetch):
        assert await anext(fetch) == b"good"


async def test_a_bundle_is_not_given_again_until_its_file_changes(tmp_path: Path) -> None:
    drop(tmp_path, "one", b"one", at=1)
    notes: dict[str, str] = {}
    async with aclosing(FileChannel().fetch(request(f"file:{tmp_path}", notes))) as fetch:
        assert await anext(fetch) == b"one"
    with pytest.raises(ChannelError, match="nothing newer"):
        await anext(FileChannel().fetch(request(f"file:{tmp_path}", notes)))
    drop(tmp_path, "two", b"two", at=2)
    async with aclosing(FileChannel().fetch(request(f"file:{tmp_path}", notes))) as fetch:
        assert await anext(fetch) == b"two"


async def test_what_was_refused_is_looked_at_again(tmp_path: Path) -> None:
    drop(tmp_path, "one", b"one", at=1)
    notes: dict[str, str] = {}
    for _ in range(2):
        fetch = FileChannel().fetch(request(f"file:{tmp_path}", notes))
        assert [data async for data in fetch] == [b"one"]


async def test_a_missing_file_and_an_empty_directory_are_not_found(tmp_path: Path) -> None:
    assert await verdict(f"file:{tmp_path}/none") is Verdict.NOT_FOUND
    assert await verdict(f"file:{tmp_path}") is Verdict.NOT_FOUND


async def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = drop(tmp_path, "huge", bytes(MAX_BUNDLE + 1), at=1)
    assert await verdict(f"file:{path}") is Verdict.TOO_LARGE


def test_a_source_without_a_path_is_none() -> None:
    with pytest.raises(LinkError, match="names no path"):
        FileChannel().check("file:")


@pytest.fixture
def typed() -> Iterator[BinaryIO]:
    """The other end of standard input, on which nothing was typed yet."""
    kept = os.dup(0)
    reader, writer = os.pipe()
    os.dup2(reader, 0)
    os.close(reader)
    with os.fdopen(writer, "wb") as opened:
        yield opened
    os.dup2(kept, 0)
    os.close(kept)


async def test_while_a_read_hangs_no_second_one_begins(typed: BinaryIO) -> None:
    """As where a file server has gone: each would leave one more thread behind."""
    channel = FileChannel()
    hanging = asyncio.ensure_future(anext(channel.fetch(request("file:-"))))
    await asyncio.sleep(0)
    with pytest.raises(ChannelError) as caught:
        await anext(channel.fetch(request("file:-")))
    assert caught.value.verdict is Verdict.TOO_SLOW
    typed.write(b"late")
    typed.close()
    assert await hanging == b"late"
