"""Bundles in files: ``file:PATH``, a directory of them, or ``file:-`` for standard input.

Bundles travel by messenger and on USB sticks. Of a directory the newest files are tried; it is
looked at every few seconds, so a bundle that is dropped there is used at once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import TypeVar, TypeVarTuple
from urllib.parse import unquote

from circumvent.api import Channel, ChannelError, Cost, Fetch, LinkError, Verdict, hookimpl
from circumvent.threads import in_thread
from circumvent.wire.bundle import MAX_BUNDLE

MAX_FILES = 8  # the newest of a directory that are tried
LOOK_EVERY = 5.0  # seconds
STANDARD_INPUT = "-"
SCHEME = "file:"
SEEN = "seen"  # in the notes

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class FileChannel(Channel):
    """Reads files that a user has brought."""

    name = "file"
    schemes = ("file",)
    cost = Cost(dial=MAX_FILES * MAX_BUNDLE, stream=0)
    tier = 0
    watch = LOOK_EVERY

    def __init__(self) -> None:
        self._looked_at: set[str] = set()  # without an answer so far

    def check(self, source: str) -> None:
        if not _path_of(source):
            raise LinkError("file: names no path; write file:PATH, or file:- for standard input")

    async def fetch(self, fetch: Fetch) -> AsyncGenerator[bytes, None]:
        path = _path_of(fetch.source)
        if path == STANDARD_INPUT:
            yield _bounded(await self._look(path, _standard_input))
            return
        files = await self._look(path, _newest, path)
        seen = " ".join(f"{file.name}:{status.st_mtime_ns}" for file, status in files)
        if fetch.notes.get(SEEN) == seen:
            raise ChannelError(Verdict.UNCHANGED)
        fetch.notes[SEEN] = seen
        failure: ChannelError | None = None
        for file, _ in files:
            try:
                data = await self._look(path, _read, file)
            except ChannelError as error:
                failure = error
            else:
                yield data
        del fetch.notes[SEEN]  # all of them were refused: look again next time
        if failure is not None:
            raise failure

    async def _look(
        self, path: str, function: Callable[[*Arguments], T], *arguments: *Arguments
    ) -> T:
        """Call a function that may hang, as a lost file server does; one at a time for a path."""

        def call() -> T:
            try:
                return function(*arguments)
            finally:
                self._looked_at.discard(path)

        if path in self._looked_at:
            raise ChannelError(Verdict.TOO_SLOW)
        self._looked_at.add(path)
        try:
            return await in_thread(call)
        except OSError as error:
            self._looked_at.discard(path)
            raise _cannot_read(error) from error


def _standard_input() -> bytes:
    """All of standard input. Not by sys.stdin: its lock would be held when the program ends."""
    data = b""
    while len(data) <= MAX_BUNDLE and (piece := os.read(0, MAX_BUNDLE)):
        data += piece
    return data


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
