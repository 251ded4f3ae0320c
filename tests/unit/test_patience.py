"""A deadline for the far side alone: what we wait for ourselves does not count."""

import asyncio

import pytest

from circumvent.net.patience import Patience, note_answered, note_reached, own_wait

pytestmark = pytest.mark.virtual_time


async def test_a_server_that_is_not_even_reached_is_waited_for_less_long() -> None:
    with pytest.raises(TimeoutError):
        async with Patience(1.0, once_reached=60.0):
            await asyncio.Event().wait()
    async with Patience(1.0, once_reached=60.0):
        note_reached()
        await asyncio.sleep(59.0)


async def test_once_reached_it_is_not_waited_for_without_end() -> None:
    async def wait_too_long() -> None:
        async with Patience(1.0, once_reached=60.0):
            note_reached()
            await asyncio.sleep(61.0)

    with pytest.raises(TimeoutError):
        await wait_too_long()


async def test_an_answer_is_noted_by_all_that_wait_for_it() -> None:
    async with Patience() as outer, Patience() as inner:
        assert (outer.answered, inner.answered) == (False, False)
        note_answered()
        assert (outer.answered, inner.answered) == (True, True)


async def test_an_inner_wait_of_our_own_stops_every_deadline_around_it() -> None:
    async def wait_inside() -> None:
        with own_wait():
            await asyncio.sleep(5.0)

    now = asyncio.get_running_loop().time
    async with Patience(3.0) as outer, Patience(2.0):
        await wait_inside()
        await asyncio.gather(wait_inside(), wait_inside())
        await asyncio.sleep(1.0)
        assert outer.waited(now()) == pytest.approx(1.0, abs=0.01)


async def test_after_such_a_wait_the_deadline_goes_on() -> None:
    async def wait_too_long() -> None:
        async with Patience(2.0):
            with own_wait():
                await asyncio.sleep(5.0)
            await asyncio.sleep(3.0)

    with pytest.raises(TimeoutError):
        await wait_too_long()


async def test_it_can_be_ended_even_while_it_stands_still() -> None:
    patience = Patience()

    async def wait_for_ever() -> None:
        async with patience:
            asyncio.get_running_loop().call_soon(patience.end)
            with own_wait():
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait_for_ever()
    assert patience.expired


async def test_a_task_that_outlives_it_changes_nothing() -> None:
    go_on = asyncio.Event()

    async def linger() -> None:
        await go_on.wait()
        with own_wait():
            note_reached()

    async with Patience(1.0, once_reached=2.0) as patience:
        lingering = asyncio.ensure_future(linger())
    go_on.set()
    await lingering
    patience.allow(1.0)
    patience.end()
    assert not patience.expired
