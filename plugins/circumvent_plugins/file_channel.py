"""Bundles in files: ``file:PATH``, a directory of them, or ``file:-`` for standard input.

Bundles travel by messenger and on USB sticks. Of a directory the newest files are tried; it is
looked at every few seconds, so a bundle that is dropped there is used at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

from circumvent.api import Channel, ChannelError, Cost, Fetch, LinkError, Verdict, hookimpl
from circumvent.wire.bundle import MAX_BUNDLE

MAX_FILES = 8  # the newest of a directory that are tried
LOOK_EVERY = 5.0  # seconds
STANDARD_INPUT = "-"
SCHEME = "file:"
SEEN = "seen"  # in the notes


class FileChannel(Channel):
    """Reads what somebody brought."""

    name = "file"
    schemes = ("file",)
    cost = Cost(dial=MAX_FILES * MAX_BUNDLE, stream=0)
    tier = 0
    watch = LOOK_EVERY

    def check(self, source: str) -> None:
        if not _path_of(source):
            raise LinkError("file: names no path; write file:PATH, or file:- for standard input")

    async def fetch(self, fetch: Fetch) -> AsyncGenerator[bytes, None]:
        path = _path_of(fetch.source)
        if path == STANDARD_INPUT:
            yield _bounded(await _standard_input())
            return
        files = await asyncio.to_thread(_newest, path)
        seen = " ".join(f"{file.name}:{status.st_mtime_ns}" for file, status in files)
        if fetch.notes.get(SEEN) == seen:
            raise ChannelError(Verdict.UNCHANGED)
        fetch.notes[SEEN] = seen
        failure: ChannelError | None = None
        for file, _ in files:
            try:
                data = await asyncio.to_thread(_read, file)
            except ChannelError as error:
                failure = error
            else:
                yield data
        del fetch.notes[SEEN]  # none of them was good: look again next time
        if failure is not None:
            raise failure


async def _standard_input() -> bytes:
    """What comes in; in a daemon, for nobody can end a read that nobody answers."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def hand_over(data: bytes) -> None:
        if not done.done():
            done.set_result(data)

    def read() -> None:
        data = b""
        # Not sys.stdin: its lock would be held when the program ends.
        while len(data) <= MAX_BUNDLE and (piece := os.read(0, MAX_BUNDLE)):
            data += piece
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(hand_over, data)

    Thread(target=read, daemon=True).start()
    return await done


def _path_of(source: str) -> str:
    """``file:PATH`` and ``file:///PATH`` (RFC 8089), percent-decoded."""
    return unquote(source.strip()[len(SCHEME) :].removeprefix("//"))


def _newest(place: str) -> list[tuple[Path, os.stat_result]]:
    """The files at ``place``, the newest first; raises ChannelError when there are none."""
    path = Path(place).expanduser()
    try:
        files = list(path.iterdir()) if path.is_dir() else [path]
        known = [(file, file.stat()) for file in files]
    except OSError as error:
        raise _cannot_read(error) from error
    regular = [(file, status) for file, status in known if stat.S_ISREG(status.st_mode)]
    if not regular:
        raise ChannelError(Verdict.NOT_FOUND)
    return sorted(regular, key=lambda each: -each[1].st_mtime_ns)[:MAX_FILES]


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return _bounded(opened.read(MAX_BUNDLE + 1))
    except OSError as error:
        raise _cannot_read(error) from error


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_BUNDLE:
        raise ChannelError(Verdict.TOO_LARGE)
    return data


def _cannot_read(error: OSError) -> ChannelError:
    return ChannelError(Verdict.NOT_FOUND, error.strerror or "", errno=error.errno)


@hookimpl
def circumvent_channels() -> Sequence[Channel]:
    """Offer files."""
    return (FileChannel(),)
