"""Output that never blocks the process: not when a terminal, a pipe or a disk takes no more.

A write to a terminal stopped by Ctrl-S or to a full pipe blocks, and a command that runs for long
must not. So it prints into a queue, and a thread writes the queue. A full queue takes no more;
when it is written again, one line says how many messages are missing.
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Condition, Thread

ROOM = 64 * 1024  # bytes that wait to be written; one message may exceed it
LAST_SECONDS = 0.5  # an exit waits so long for the reader; then the rest is dropped
_NO_PLACE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN)
)


def missing(count: int) -> str:
    """The text that takes the place of dropped messages."""
    return f"{count} message{'s' * (count != 1)} missing here: the output was blocked"


def _note(count: int) -> bytes:
    return f"warning: {missing(count)}\n".encode()


class Spool(io.RawIOBase):
    """A file whose ``write`` never blocks: it takes all or, where there is no room, nothing.

    ``note`` makes the line that takes the place of ``lost`` messages. A failed write, such as to a
    full disk, is tried again after ``retry_after`` seconds.
    """

    def __init__(self, descriptor: int, retry_after: float = 1.0) -> None:
        self._descriptor = descriptor
        self._retry_after = retry_after
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._fails = False
        self._changed = Condition()
        self.lost = 0
        self.note: Callable[[int], bytes] = _note
        Thread(target=self._write_queue, daemon=True).start()

    @property
    def has_room(self) -> bool:
        """Whether the next message will be taken."""
        return self._size < ROOM

    @property
    def is_empty(self) -> bool:
        """Whether all that was taken is written."""
        return not self._size

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        if not self.has_room:
            self.lost += 1
        elif data:
            self._note_lost()
            self._put(bytes(data))
        return len(data)

    def finish(self, seconds: float) -> None:
        """Wait until all is written: at most so long, and not after a failed write."""
        self._note_lost()
        with self._changed:
            self._changed.wait_for(lambda: self.is_empty or self._fails, seconds)

    def _note_lost(self) -> None:
        if self.lost:
            self._put(self.note(self.lost))
            self.lost = 0

    def _put(self, data: bytes) -> None:
        with self._changed:
            self._queue.append(data)
            self._size += len(data)
            self._changed.notify_all()

    def _write_queue(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                data = self._queue[0]
            try:
                count = os.write(self._descriptor, data)
            except BlockingIOError:  # a process that shares it set O_NONBLOCK
                select.select((), (self._descriptor,), ())
            except OSError:  # the disk is full, or the reader is gone
                self._wrote(fails=True)
                time.sleep(self._retry_after)
            else:
                self._wrote(written=count)

    def _wrote(self, written: int = 0, *, fails: bool = False) -> None:
        with self._changed:
            self._fails = fails
            if rest := self._queue[0][written:]:
                self._queue[0] = rest
            else:
                self._queue.popleft()
            self._size -= written
            self._changed.notify_all()


def repair_streams() -> None:
    """Replace closed standard streams, and characters that the terminal's charset lacks.

    If a closed stream stayed closed, the next opened file would get its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def is_of_output(error: OSError) -> bool:
    """Whether printed text could not be written; click handles a closed pipe."""
    return error.errno in _NO_PLACE and error.filename is None


def give_up_output() -> None:
    """Drop what is not written yet, so that the exit does not try again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def never_wait() -> Spool | None:
    """Print through spools from now on; returns standard output's spool.

    None when standard output is no file, and when the system allows no thread.
    """
    try:
        out = Spool(sys.stdout.fileno())
        same = os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
        err = out if same else Spool(sys.stderr.fileno())  # one spool for one file keeps the order
    except (OSError, RuntimeError):
        return None
    for name, spool in (("stdout", out), ("stderr", err)):
        old = getattr(sys, name)
        new = io.TextIOWrapper(spool, old.encoding, old.errors, write_through=True)  # type: ignore[type-var]
        setattr(sys, name, new)
    atexit.register(_finish, (out, err))
    return out


def _finish(spools: Iterable[Spool]) -> None:
    deadline = time.monotonic() + LAST_SECONDS
    for spool in spools:
        spool.finish(deadline - time.monotonic())
