"""Waking who waits and dismissing tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from circumvent.errors import StreamResetError
from circumvent.tasks import dismiss, wake


async def forever() -> str:
    await asyncio.Event().wait()
    return "never"


async def brings(value: str) -> str:
    await asyncio.sleep(0)
    return value


async def fails(error: Exception) -> str:
    await asyncio.sleep(0)
    raise error


async def started(*coroutines: Coroutine[None, None, str]) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(each) for each in coroutines]
    await asyncio.sleep(0)
    return tasks


@pytest.fixture
async def reported() -> list[dict[str, Any]]:
    """What the loop's exception handler is told."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


async def test_who_waits_goes_on() -> None:
    waiter = asyncio.get_running_loop().create_future()
    wake(waiter)
    await waiter


async def test_it_is_no_mistake_to_wake_nobody() -> None:
    done, cancelled = (asyncio.get_running_loop().create_future() for _ in range(2))
    done.set_result(None)
    cancelled.cancel()
    for waiter in (None, done, cancelled):
        wake(waiter)
    assert cancelled.cancelled()


async def test_dismissed_tasks_have_ended() -> None:
    tasks = await started(forever(), forever())
    assert await dismiss(tasks) == []
    assert [task.cancelled() for task in tasks] == [True, True]


async def test_what_a_task_brought_in_time_is_returned() -> None:
    (early,) = await started(brings("something"))
    await early
    assert await dismiss([early, *await started(forever())]) == ["something"]


async def test_dismissing_waits_for_what_tasks_do_last() -> None:
    closed = asyncio.Event()

    async def closes() -> str:
        try:
            return await forever()
        finally:
            await asyncio.sleep(0.01)
            closed.set()

    await dismiss(await started(closes()))
    assert closed.is_set()


@pytest.mark.parametrize("error", [StreamResetError("cut"), TimeoutError(), OSError()])
async def test_failures_of_io_are_dropped(error: Exception, reported: list[dict[str, Any]]) -> None:
    tasks = await started(fails(error))
    await asyncio.sleep(0)
    assert await dismiss(tasks) == []
    assert reported == []


async def test_a_mistake_in_the_program_is_reported(reported: list[dict[str, Any]]) -> None:
    mistake = KeyError("a mistake")
    tasks = await started(fails(mistake))
    await asyncio.sleep(0)
    assert await dismiss(tasks) == []
    assert [context["exception"] for context in reported] == [mistake]
