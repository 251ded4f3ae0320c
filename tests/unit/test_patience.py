"""A deadline for the far side alone."""

import asyncio

import pytest

from circumvent.net.patience import Patience, note_answered, note_reached, own_wait


async def test_who_is_not_even_reached_is_waited_for_less_long() -> None:
    with pytest.raises(TimeoutError):
        async with Patience(0.01, once_reached=60.0):
            await asyncio.Event().wait()
    async with Patience(0.01, once_reached=60.0):
        note_reached()
        await asyncio.sleep(0.03)


async def test_an_answer_is_noted_by_all_that_wait_for_it() -> None:
    async with Patience() as outer, Patience() as inner:
        assert (outer.answered, inner.answered) == (False, False)
        note_answered()
        assert (outer.answered, inner.answered) == (True, True)


async def test_an_inner_wait_of_our_own_stops_every_deadline_around_it() -> None:
    async def wait_inside() -> None:
        with own_wait():
            await asyncio.sleep(0.25)

    async with Patience(0.3), Patience(0.2):
        await wait_inside()
        await asyncio.gather(wait_inside(), wait_inside())


async def test_after_a_wait_of_our_own_the_rest_of_the_time_runs() -> None:
    async def wait_for_both() -> None:
        async with Patience(0.02):
            with own_wait():
                await asyncio.sleep(0)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait_for_both()


async def test_it_can_be_ended_even_while_it_stands_still() -> None:
    async def wait_for_ever() -> None:
        async with Patience() as patience:
            asyncio.get_running_loop().call_soon(patience.end)
            with own_wait():
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait_for_ever()


async def test_what_outlives_it_harms_nobody() -> None:
    go_on = asyncio.Event()

    async def linger() -> None:
        await go_on.wait()
        with own_wait():
            note_reached()

    async with Patience(0.01, once_reached=0.02) as patience:
        lingering = asyncio.ensure_future(linger())
    go_on.set()
    await lingering
    patience.allow(1.0)
    patience.end()
