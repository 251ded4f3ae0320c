"""Staggered starts (RFC 8305): the next one starts when the one before is slow or has failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import TypeVar

from circumvent.tasks import dismiss

T = TypeVar("T")


async def first_success(
    entrants: Iterable[Coroutine[None, None, T]], pause: float, drop: Callable[[T], None]
) -> T:
    """The first result; raises the last error when all fail.

    The next entrant starts ``pause`` seconds after the one before, or when that has failed.
    Results that come too late are handed to ``drop``.
    """
    waiting = list(entrants)
    running: set[asyncio.Task[T]] = set()
    done: set[asyncio.Task[T]] = set()
    try:
        while True:
            if waiting:
                running.add(asyncio.get_running_loop().create_task(waiting.pop(0)))
            done, running = await asyncio.wait(
                running,
                timeout=pause if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            while done:
                task = done.pop()
                error = task.exception()
                if error is None:
                    return task.result()
                if not (waiting or running or done):
                    raise error
    finally:
        for unused in waiting:
            unused.close()
        for late in await dismiss(running | done):
            drop(late)
