"""What is printed, where nobody may read it: a terminal stopped by Ctrl-S, a full pipe or disk.

Whoever writes there is held up, and a command that runs for long must not be. So what it prints
goes into a queue, and a thread writes it. A queue that nobody empties takes no more; when it goes
on, one line says how much is missing.
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
AGAIN_SECONDS = 1.0  # until a disk that is full is tried again
LAST_SECONDS = 0.5  # that an exit waits for who reads; then what is left is given up
_NO_PLACE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN)
)


def missing(count: int) -> str:
    """What stands for messages that were given up."""
    return f"{count} message{'s' * (count != 1)} missing here: nobody took them in time"


def _note(count: int) -> bytes:
    return f"warning: {missing(count)}\n".encode()


class Spool(io.RawIOBase):
    """A file whose ``write`` never waits: it takes all or, where there is no room, nothing.

    ``note`` makes the line that stands for ``lost`` messages.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._fails = False
        self._changed = Condition()
        self.lost = 0
        self.note: Callable[[int], bytes] = _note
        Thread(target=self._write_on, daemon=True).start()

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
            self._tell_lost()
            self._put(bytes(data))
        return len(data)

    def finish(self, seconds: float) -> None:
        """Wait until all is written, so long at most and only while it goes well."""
        self._tell_lost()
        with self._changed:
            self._changed.wait_for(lambda: self.is_empty or self._fails, seconds)

    def _tell_lost(self) -> None:
        if self.lost:
            self._put(self.note(self.lost))
            self.lost = 0

    def _put(self, data: bytes) -> None:
        with self._changed:
            self._queue.append(data)
            self._size += len(data)
            self._changed.notify_all()

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                data = self._queue[0]
            try:
                count = os.write(self._descriptor, data)
            except BlockingIOError:  # somebody who shares it made it so
                select.select((), (self._descriptor,), ())
            except OSError:  # full, or gone: as if nobody read it
                self._went(fails=True)
                time.sleep(AGAIN_SECONDS)
            else:
                self._went(written=count)

    def _went(self, written: int = 0, *, fails: bool = False) -> None:
        with self._changed:
            self._fails = fails
            if rest := self._queue[0][written:]:
                self._queue[0] = rest
            else:
                self._queue.popleft()
            self._size -= written
            self._changed.notify_all()


def repair_streams() -> None:
    """Make do with what a program may be started with: closed streams, charsets that lack much.

    A closed one is replaced, or else what is opened next would take its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def is_of_output(error: OSError) -> bool:
    """Whether it means that what was printed had no place; a closed pipe is click's matter."""
    return error.errno in _NO_PLACE and error.filename is None


def give_up_output() -> None:
    """Drop what was printed and not written, so that it is not tried again at the end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def never_wait() -> Spool | None:
    """From here on nothing that this process prints waits; returns standard output's spool.

    None when it goes to no file, and when the system allows no thread.
    """
    try:
        out = Spool(sys.stdout.fileno())
        same = os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
        err = out if same else Spool(sys.stderr.fileno())  # in one file all stays in order
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
