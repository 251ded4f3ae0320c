"""Waking one who waits, and ending tasks that nobody needs any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TypeVar

from circumvent.errors import CircumventError

T = TypeVar("T")


def wake(waiter: asyncio.Future[None] | None) -> None:
    """Let whoever awaits ``waiter`` go on; where nobody does, nothing happens."""
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


async def dismiss(tasks: Iterable[asyncio.Task[T]]) -> list[T]:
    """Cancel ``tasks``, wait until they have ended, and return what some brought nevertheless.

    Failures that are expected of I/O are dropped with the tasks. Any other is a mistake in the
    program: the loop's exception handler is told.
    """
    dismissed = list(tasks)
    for task in dismissed:
        task.cancel()
    brought = []
    for task, end in zip(
        dismissed, await asyncio.gather(*dismissed, return_exceptions=True), strict=True
    ):
        if not isinstance(end, BaseException):
            brought.append(end)
        elif not isinstance(end, (CircumventError, OSError, asyncio.CancelledError)):
            context = {"message": "a dismissed task failed", "exception": end, "task": task}
            task.get_loop().call_exception_handler(context)
    return brought
