"""Moves bytes from one connection to another inside of the kernel (Linux, splice(2)).

They pass through a pipe, which is empty again after most steps: so all streams share a few pipes.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from circumvent.net.tcp import TcpStream

MOST = 512 * 1024  # bytes in one step
_IS_KNOWN = hasattr(os, "splice")
_CAPACITY = 1 << 20  # a page for each packet, however small that is; any user may have as much
_F_SETPIPE_SZ = 1031  # linux/fcntl.h; not in every version of the module
_SPARE = 4  # pipes that are kept while nothing moves
MOST_PIPES = 32  # of sinks that took less than they had room for; the other streams copy


@dataclass(frozen=True, slots=True)
class Pipe:
    """Its two descriptors."""

    exit: int
    entrance: int

    def close(self) -> None:
        """Drop it, and the bytes inside."""
        os.close(self.exit)
        os.close(self.entrance)


class Pipes:
    """All pipes of this process."""

    def __init__(self) -> None:
        self._spare: list[Pipe] = []
        self._taken = 0

    def take(self) -> Pipe | None:
        """An empty pipe; None where there is none to be had."""
        if not _IS_KNOWN or self._taken == MOST_PIPES:
            return None
        pipe = self._spare.pop() if self._spare else _new_pipe()
        self._taken += pipe is not None
        return pipe

    def give_back(self, pipe: Pipe, *, is_empty: bool) -> None:
        """Let others have it; one that is not empty is dropped with what is in it."""
        self._taken -= 1
        if is_empty and len(self._spare) < _SPARE:
            self._spare.append(pipe)
        else:
            pipe.close()


def _new_pipe() -> Pipe | None:
    import fcntl  # noqa: PLC0415 - not every system has it

    try:
        pipe = Pipe(*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:  # no descriptors are left
        return None
    with contextlib.suppress(OSError):  # the user has many pipes already: it is only slower
        fcntl.fcntl(pipe.entrance, _F_SETPIPE_SZ, _CAPACITY)
    return pipe


PIPES = Pipes()


async def splice(source: TcpStream, sink: TcpStream) -> int | None:
    """One step: wait, and move what is there and ``sink`` has room for; 0 at the source's end.

    None where it cannot be done, and nothing was moved. Raises StreamResetError.
    """
    while True:
        await source.wait_readable()
        room = sink.room()
        if not room:
            await sink.wait_writable()
            continue
        pipe = PIPES.take()
        if pipe is None:
            return None
        left = 1
        try:
            count = source.splice_into(pipe.entrance, min(room, MOST))
            left = count or 0
            while left:
                left -= sink.splice_from(pipe.exit, left)
                if left:
                    await sink.wait_writable()
        finally:
            PIPES.give_back(pipe, is_empty=not left)
        if count is not None:
            return count
