"""How long the far side is waited for. What we wait for ourselves does not count."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Self

_innermost: ContextVar[Patience | None] = ContextVar("patience", default=None)


class Patience:
    """A deadline for the far side, as a context manager that raises TimeoutError; used once.

    It stands still while anything inside, in any task, waits for something of our own
    (``own_wait``). ``seconds`` become ``once_reached`` when the server's kernel has answered: a
    server that is not even reached is not waited for as long. ``answered`` is True once more than
    a kernel has answered, as in a TLS handshake; ``opened``, once a stream through it was open.
    """

    __slots__ = (
        "_begun",
        "_is_open",
        "_limit",
        "_once_reached",
        "_outer",
        "_own_waits",
        "_paused_at",
        "_seconds",
        "answered",
        "opened",
    )

    def __init__(self, seconds: float = math.inf, once_reached: float | None = None) -> None:
        self._seconds = seconds
        self._once_reached = once_reached
        self._limit = asyncio.timeout(None)
        self._outer: Patience | None = None
        self._begun = self._paused_at = 0.0
        self._own_waits = 0
        self._is_open = False
        self.answered = self.opened = False

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        self._begun = asyncio.get_running_loop().time()
        self._is_open = True
        self._plan()
        self._outer = _innermost.get()
        _innermost.set(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_open = False  # tasks that were begun inside may outlive it
        _innermost.set(self._outer)
        await self._limit.__aexit__(kind, error, trace)

    def waited(self, now: float) -> float:
        """Seconds for which the far side was waited for."""
        return (self._paused_at if self._own_waits else now) - self._begun

    def overrun(self, now: float) -> float:
        """Seconds by which the deadline is exceeded: more than a few show that we stood still."""
        return self.waited(now) - self._seconds

    @property
    def expired(self) -> bool:
        """Whether the deadline, or ``end``, ended what was waited for."""
        return self._limit.expired()

    def allow(self, seconds: float) -> None:
        """From now on the deadline is so many seconds after the beginning."""
        self._seconds = seconds
        self._plan()

    def end(self) -> None:
        """Give up now, whatever is waited for."""
        if self._may_change():
            self._limit.reschedule(0.0)

    def _plan(self) -> None:
        if self._may_change() and not self._own_waits:
            is_endless = math.isinf(self._seconds)
            self._limit.reschedule(None if is_endless else self._begun + self._seconds)

    def _may_change(self) -> bool:
        return self._is_open and not self._limit.expired()

    def _pause(self) -> None:
        self._own_waits += 1
        if self._own_waits == 1:
            self._paused_at = asyncio.get_running_loop().time()
            if self._may_change():
                self._limit.reschedule(None)

    def _resume(self) -> None:
        self._own_waits -= 1
        if not self._own_waits:
            self._begun += asyncio.get_running_loop().time() - self._paused_at
            self._plan()

    def _reach(self) -> None:
        if self._once_reached is not None:
            seconds, self._once_reached = self._once_reached, None
            self.allow(seconds)


@contextmanager
def own_wait() -> Iterator[None]:
    """Around waiting for something of our own: a turn, a descriptor, memory."""
    held = list(_all())
    for patience in held:
        patience._pause()  # noqa: SLF001 - one mechanism in two parts
    try:
        yield
    finally:
        for patience in held:
            patience._resume()  # noqa: SLF001 - as above


def note_reached() -> None:
    """The server's kernel has answered."""
    for patience in _all():
        patience._reach()  # noqa: SLF001 - as above


def note_answered() -> None:
    """The server itself has answered."""
    for patience in _all():
        patience.answered = True


def note_opened() -> None:
    """A stream through the server is open."""
    for patience in _all():
        patience.opened = True


def _all() -> Iterator[Patience]:
    patience = _innermost.get()
    while patience is not None:
        yield patience
        patience = patience._outer  # noqa: SLF001 - as above
