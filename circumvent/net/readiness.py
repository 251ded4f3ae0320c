"""Which sockets can be read or written now; where operating systems differ most.

Linux: one edge-triggered epoll for all sockets, itself watched by the asyncio loop. A socket
is registered once for life: waiting costs no system call, an idle socket no loop handle.
Elsewhere: the loop's own level-triggered readers, added for one wake-up at a time (tested on
Linux only).
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Generator
from weakref import WeakKeyDictionary

from circumvent.tasks import wake

_EDGES = 0
if sys.platform == "linux":
    _EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
    _BROKEN = select.EPOLLHUP | select.EPOLLERR
    _ENDED = select.EPOLLRDHUP | _BROKEN
    _SO_MEMINFO = 55  # asm-generic/socket.h; the socket module does not name it
_EVENTS_PER_POLL = 256  # a turn of the loop stays short however many sockets are ready
_MEMINFO = struct.Struct("9I")  # linux/sock_diag.h: SK_MEMINFO_*
_SNDBUF, _WMEM_QUEUED = 3, 5
_UNKNOWN_ROOM = 64 * 1024  # where the kernel does not tell: an ordinary send buffer


class _Now:
    """An awaitable that does not wait."""

    def __await__(self) -> Generator[None]:
        return
        yield


NOW = _Now()


class Watch(ABC):
    """The readiness of one socket. At most one task waits per direction."""

    __slots__ = ("_fd", "_loop", "_reader", "_writer", "ended", "readable")

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self._fd = fd
        self._loop = loop
        self.readable = True
        self.ended = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def drained(self) -> None:
        """Note that a read found nothing more: wait for the next event, unless the end was seen."""
        self.readable = self.ended

    # Futures, not coroutines: thousands of idle streams wait here.

    def wait_readable(self) -> Awaitable[None]:
        """Return when a read is worth a try."""
        if self.readable:
            return NOW
        self._reader = waiter = self._loop.create_future()
        self._arm_reader()
        return waiter

    def wait_writable(self) -> Awaitable[None]:
        """Return when the kernel calls the socket writable, or it broke."""
        self._writer = waiter = self._loop.create_future()
        self._arm_writer()
        return waiter

    def close(self) -> None:
        """Forget the socket, before its descriptor is closed, and wake all waiters."""
        if self._fd >= 0:
            self._forget()
            self._fd = -1
        self.readable = True
        wake(self._reader)
        wake(self._writer)

    @abstractmethod
    def _arm_reader(self) -> None:
        """Let ``_reader`` be woken when there is something to read."""

    @abstractmethod
    def _arm_writer(self) -> None:
        """Let ``_writer`` be woken when there is room, or at once if there is."""

    @abstractmethod
    def _forget(self) -> None:
        """Stop watching."""


class EdgeWatch(Watch):
    """Edge-triggered, over the shared epoll."""

    __slots__ = ("_fresh", "_poller")

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(fd, loop)
        self._poller = _poller(loop)
        self._fresh = True
        self._poller.watches[fd] = self
        self._poller.epoll.register(fd, _EDGES)

    def fire(self, events: int) -> None:
        """Note what epoll reported, and wake the waiters."""
        self._fresh = False
        if events & _ENDED:
            self.ended = True
        if events & (select.EPOLLIN | _ENDED):
            self.readable = True
            wake(self._reader)
        if events & (select.EPOLLOUT | _BROKEN):
            wake(self._writer)

    def _arm_reader(self) -> None:
        if self._fd < 0:
            wake(self._reader)

    def _arm_writer(self) -> None:
        if self._fd < 0:
            wake(self._writer)
        elif not self._fresh:  # ask anew: an edge comes now if writable, else when it becomes so
            self._poller.epoll.modify(self._fd, _EDGES)

    def _forget(self) -> None:
        # Closing the last descriptor takes the socket out of the epoll by itself.
        self._poller.watches.pop(self._fd, None)


class _Poller:
    """The epoll that one loop's sockets share."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.watches: dict[int, EdgeWatch] = {}

    def dispatch(self) -> None:
        for fd, events in self.epoll.poll(0, _EVENTS_PER_POLL):
            watch = self.watches.get(fd)
            if watch is not None:
                watch.fire(events)


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Poller] = WeakKeyDictionary()


def _poller(loop: asyncio.AbstractEventLoop) -> _Poller:
    poller = _pollers.get(loop)
    if poller is None:
        poller = _pollers[loop] = _Poller()
        loop.add_reader(poller.epoll.fileno(), poller.dispatch)
    return poller


class LevelWatch(Watch):
    """Level-triggered, over the loop's own selector; portable. Does not see an end ahead."""

    __slots__ = ()

    def _arm_reader(self) -> None:
        if self._fd < 0:
            wake(self._reader)
        else:
            self._loop.add_reader(self._fd, self._on_readable)

    def _arm_writer(self) -> None:
        if self._fd < 0:
            wake(self._writer)
        else:
            self._loop.add_writer(self._fd, self._on_writable)

    def _on_readable(self) -> None:
        self._loop.remove_reader(self._fd)
        self.readable = True
        wake(self._reader)

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._fd)
        wake(self._writer)

    def _forget(self) -> None:
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)


def watch(fd: int) -> Watch:
    """Begin to watch a non-blocking socket."""
    loop = asyncio.get_running_loop()
    return EdgeWatch(fd, loop) if _EDGES else LevelWatch(fd, loop)


def send_room(sock: socket.socket) -> int:
    """Bytes that the kernel would take now; 0 exactly where epoll would not say writable.

    Counts what the kernel counts (``sk_wmem_queued`` against ``sk_sndbuf``, as in
    ``__sk_stream_is_writeable``), so that what was leased for a send is wholly taken.
    """
    if not _EDGES:
        return _UNKNOWN_ROOM
    info = _MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
    room = info[_SNDBUF] - info[_WMEM_QUEUED]
    return room if room >= info[_WMEM_QUEUED] >> 1 and room > 0 else 0
