"""Calls that may block for as long as somebody else likes: name servers, network file systems."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


async def in_thread(function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """What ``function`` returns or raises, called in a thread of its own.

    Unlike those of ``asyncio.to_thread`` it is never waited for when the program ends. Whoever
    calls bounds how many there are. Raises OSError when the system allows no more threads.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(report: Callable[[], None]) -> None:
        if not done.done():  # nobody waits any more
            report()

    def call() -> None:
        report: Callable[[], None]
        try:
            report = partial(done.set_result, function(*arguments))
        except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
            report = partial(done.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, report)

    try:
        threading.Thread(target=call, daemon=True).start()
    except RuntimeError as error:
        raise OSError(str(error)) from error
    return await done
