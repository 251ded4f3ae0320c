"""The memory's rules one by one; their interplay is in ``test_memory_properties``."""

from __future__ import annotations

import asyncio
import gc
import mmap
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from circumvent.errors import BudgetError, LeaseError
from circumvent.memory import (
    LARGEST,
    PAGE,
    SMALLEST_ARENA,
    Account,
    Lease,
    Memory,
    Pressure,
    anonymous,
    arena,
)

BUDGET = 2 * SMALLEST_ARENA


async def turn() -> None:
    await asyncio.sleep(0)


class TestSteps:
    def test_a_step_is_as_large_as_wanted_or_as_there_is_room(self) -> None:
        account = Memory(SMALLEST_ARENA).account("a")
        large = [try_step(account, 1, LARGEST), try_step(account, PAGE, LARGEST)]
        assert [len(lease.view) for lease in large] == [LARGEST, LARGEST]
        assert account.try_step(1, LARGEST) is None
        large[0].release()
        assert len(try_step(account, 1, PAGE).view) == PAGE
        assert PAGE < len(try_step(account, 1, LARGEST).view) < LARGEST

    def test_a_step_larger_than_any_block_is_refused(self) -> None:
        account = Memory(BUDGET).account("a")
        with pytest.raises(BudgetError, match=f"step of {LARGEST + 1} bytes is larger than any"):
            account.try_step(LARGEST + 1, LARGEST + 1)

    async def test_also_while_others_wait(self) -> None:
        account = Memory(SMALLEST_ARENA).account("a")
        taken = [try_step(account, LARGEST, LARGEST) for _ in range(2)]
        waiting = asyncio.create_task(account.step(LARGEST, LARGEST))
        await turn()
        with pytest.raises(BudgetError, match="larger than any block"):
            await account.step(LARGEST + 1, LARGEST + 1)
        taken[0].release()
        (await waiting).release()

    async def test_who_waits_first_is_served_first(self) -> None:
        account = Memory(SMALLEST_ARENA).account("a")
        taken = [try_step(account, LARGEST, LARGEST) for _ in range(2)]
        served: list[int] = []

        async def ask(number: int, size: int) -> None:
            with await account.step(size, size):
                served.append(number)
                await turn()

        async with asyncio.TaskGroup() as group:
            for number, size in enumerate((LARGEST, 1, PAGE, LARGEST, 1)):
                group.create_task(ask(number, size))
            await turn()
            assert account.try_step(1, 1) is None, "room for it, but others came first"
            taken[0].release()
        assert served == [0, 1, 2, 3, 4]

    async def test_a_waiter_cancelled_before_its_turn_is_passed_over(self) -> None:
        memory = Memory(SMALLEST_ARENA)
        account = memory.account("a")
        taken = [try_step(account, LARGEST, LARGEST) for _ in range(2)]
        gone = asyncio.create_task(account.step(LARGEST, LARGEST))
        stays = asyncio.create_task(account.step(LARGEST, LARGEST))
        await turn()
        gone.cancel()
        taken[0].release()  # in the same turn: the cancelled task has not run yet
        (await stays).release()
        taken[1].release()
        assert memory.leased == 0

    async def test_a_lease_granted_to_a_cancelled_waiter_comes_back(self) -> None:
        memory = Memory(SMALLEST_ARENA)
        account = memory.account("a")
        taken = [try_step(account, LARGEST, LARGEST) for _ in range(2)]
        waiting = asyncio.create_task(account.step(LARGEST, LARGEST))
        await turn()
        taken[0].release()
        waiting.cancel()  # granted already, in the same turn
        taken[1].release()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert memory.leased == 0


class TestLeases:
    @pytest.mark.parametrize("size", [0, 1, PAGE, PAGE + 1, LARGEST])
    def test_a_hold_is_rounded_up_to_pages(self, size: int) -> None:
        memory = Memory(BUDGET)
        with memory.account("a").hold(size) as lease:
            assert len(lease.view) == memory.leased == max(1, -(-size // PAGE)) * PAGE
        assert memory.leased == 0

    def test_a_second_release_raises(self) -> None:
        lease = Memory(BUDGET).account("a").hold(1)
        lease.release()
        with pytest.raises(LeaseError, match="released twice"):
            lease.release()

    def test_a_released_view_cannot_be_used(self) -> None:
        lease = Memory(BUDGET).account("a").hold(1)
        lease.release()
        with pytest.raises(ValueError, match="released"):
            lease.view[0] = 1

    def test_debug_mode_poisons_what_is_released(self) -> None:
        lease = Memory(BUDGET, poison=True).account("a").hold(1)
        kept = lease.view[:4]  # what a bug would do
        kept[:] = b"data"
        lease.release()
        assert bytes(kept) == b"\xdd" * 4

    def test_without_debug_mode_no_time_is_spent_on_what_is_released(self) -> None:
        lease = Memory(BUDGET).account("a").hold(1)
        kept = lease.view[:4]
        kept[:] = b"data"
        lease.release()
        assert bytes(kept) == b"data"

    def test_holds_leave_the_steps_their_reserve(self) -> None:
        memory = Memory(BUDGET)
        account = memory.account("a")
        every(lambda: account.try_hold(PAGE))
        assert memory.leased == memory.budget - memory.step_reserve
        assert memory.leased == memory.arena_high_water == account.high_water
        try_step(account, LARGEST, LARGEST).release()
        with pytest.raises(BudgetError, match="a cannot keep 4096 bytes"):
            account.hold(PAGE)

    def test_pages_of_small_blocks_serve_large_ones(self) -> None:
        account = Memory(BUDGET).account("a")
        for _ in range(2):
            for lease in every(lambda: account.try_step(PAGE, PAGE)):
                lease.release()
            for lease in every(lambda: account.try_hold(LARGEST)):
                lease.release()
            for lease in every(lambda: account.try_hold(PAGE)):
                lease.release()
            steps = every(lambda: account.try_step(LARGEST, LARGEST))
            assert len(steps) == BUDGET // LARGEST
            for lease in steps:
                lease.release()

    def test_a_guarantee_that_was_drawn_upon_and_ended_leaves_all_to_the_others(self) -> None:
        memory = Memory(BUDGET)
        kept, other = memory.account("kept", guaranteed=2 * PAGE), memory.account("other")
        kept.hold(3 * PAGE).release()
        kept.charge(3 * PAGE)
        kept.discharge(3 * PAGE)
        memory.close(kept)
        assert len(every(lambda: other.try_hold(PAGE))) * PAGE == (
            memory.budget - memory.step_reserve
        )


class TestCharges:
    def test_there_is_an_end_to_them(self) -> None:
        memory = Memory(BUDGET)
        account = memory.account("a")
        account.charge(memory.budget - memory.step_reserve)
        with pytest.raises(BudgetError, match="a asks for 1 bytes and there is no room"):
            account.charge(1)

    def test_giving_back_more_than_was_taken_is_an_error(self) -> None:
        account = Memory(BUDGET).account("a")
        account.charge(5)
        with pytest.raises(LeaseError, match="gives back 6 bytes but was charged 5"):
            account.discharge(6)

    async def test_what_can_never_fit_is_refused_at_once(self) -> None:
        memory = Memory(BUDGET)
        memory.account("other", guaranteed=PAGE)
        with pytest.raises(BudgetError, match="more than there are"):
            await memory.account("a").reserve(memory.budget - memory.step_reserve)
        with pytest.raises(BudgetError, match="more than there are"):
            await memory.account("small", limit=PAGE).reserve(PAGE + 1)

    async def test_who_waits_for_the_others_is_not_overtaken(self) -> None:
        memory = Memory(BUDGET)
        account = memory.account("a")
        account.charge(memory.budget - memory.step_reserve - PAGE)
        async with asyncio.TaskGroup() as group:
            group.create_task(account.reserve(2 * PAGE))
            await turn()
            with pytest.raises(BudgetError):
                account.charge(1)
            account.discharge(PAGE)

    async def test_what_was_waited_for_is_charged_when_it_is_granted(self) -> None:
        memory = Memory(BUDGET)
        account, other = memory.account("a"), memory.account("other")
        account.charge(memory.budget - memory.step_reserve)
        waiting = asyncio.create_task(other.reserve(PAGE))
        await turn()
        account.discharge(PAGE)
        await waiting
        assert (other.charged, memory.charged) == (PAGE, memory.budget - memory.step_reserve)

    async def test_a_cancelled_wait_lets_those_behind_it_pass(self) -> None:
        memory = Memory(BUDGET)
        account, other = memory.account("a"), memory.account("other")
        account.charge(memory.budget - memory.step_reserve)
        large, small = (asyncio.create_task(other.reserve(size)) for size in (2 * PAGE, PAGE))
        await turn()
        account.discharge(PAGE)
        await turn()
        assert not small.done()
        large.cancel()
        await small
        with pytest.raises(asyncio.CancelledError):
            await large
        assert other.charged == PAGE

    async def test_a_charge_granted_to_a_cancelled_waiter_comes_back(self) -> None:
        memory = Memory(BUDGET)
        account, other = memory.account("a"), memory.account("other")
        account.charge(memory.budget - memory.step_reserve)
        waiting = asyncio.create_task(other.reserve(PAGE))
        await turn()
        account.discharge(PAGE)
        waiting.cancel()  # granted already, in the same turn
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert other.charged == 0

    async def test_an_account_at_its_own_limit_does_not_keep_others_waiting(self) -> None:
        memory = Memory(BUDGET)
        limited, other = memory.account("limited", limit=PAGE), memory.account("other")
        await limited.reserve(PAGE)
        async with asyncio.TaskGroup() as group:
            group.create_task(limited.reserve(1))
            await turn()
            other.charge(1)
            await other.reserve(1)
            limited.discharge(1)

    async def test_a_guarantee_holds_while_others_wait(self) -> None:
        memory = Memory(BUDGET)
        sure, other = memory.account("sure", guaranteed=PAGE), memory.account("other")
        other.charge(memory.budget - memory.step_reserve - PAGE)
        async with asyncio.TaskGroup() as group:
            group.create_task(other.reserve(1))
            await turn()
            sure.charge(PAGE)
            other.discharge(1)


class TestAccounts:
    def test_a_guarantee_that_cannot_be_kept_is_refused(self) -> None:
        memory = Memory(BUDGET)
        with pytest.raises(BudgetError, match=r"no room for .* bytes guaranteed to greedy"):
            memory.account("greedy", guaranteed=memory.budget)

    def test_a_guarantee_can_be_held_although_steps_took_all_they_may(self) -> None:
        memory = Memory(BUDGET, SMALLEST_ARENA)
        kept, other = memory.account("kept", guaranteed=9 * PAGE), memory.account("other")
        while other.try_step(PAGE, PAGE):
            pass
        assert memory.leased == memory.arena_size - 9 * PAGE
        assert other.try_hold(PAGE) is None
        assert all(kept.try_hold(PAGE) for _ in range(9))

    def test_a_guarantee_that_was_drawn_upon_can_be_held_again(self) -> None:
        memory = Memory(BUDGET, SMALLEST_ARENA)
        kept, other = memory.account("kept", guaranteed=2 * PAGE), memory.account("other")
        kept.hold(4 * PAGE).release()
        assert every(lambda: other.try_hold(PAGE))
        assert kept.try_hold(2 * PAGE)

    def test_an_account_in_use_cannot_be_closed(self) -> None:
        memory = Memory(BUDGET)
        account = memory.account("a", guaranteed=PAGE)
        account.charge(1)
        with pytest.raises(LeaseError, match="account a is closed"):
            memory.close(account)
        account.discharge(1)
        memory.close(account)
        assert memory.account("a") is not account

    def test_an_arena_too_small_to_work_with_is_refused(self) -> None:
        with pytest.raises(BudgetError, match="too few"):
            Memory(SMALLEST_ARENA - 1)

    def test_pressure_counts_leases_and_charges(self) -> None:
        memory = Memory(BUDGET)
        account = memory.account("a")
        levels = [memory.pressure]
        account.charge(memory.budget - memory.step_reserve)
        leases = [account.try_step(1, LARGEST)]
        while leases[-1]:
            leases.append(account.try_step(1, LARGEST))
        levels.append(memory.pressure)
        assert levels == [Pressure.CALM, Pressure.CRITICAL]
        assert memory.high_water <= memory.budget


class TestIdlePages:
    def test_go_back_to_the_system(self) -> None:
        memory = Memory(64 * LARGEST)
        account = memory.account("a")
        gc.collect()  # what other tests left must not go meanwhile
        before = private_dirty()
        leases = [try_step(account, LARGEST, LARGEST) for _ in range(24)]
        leases += [account.hold(LARGEST) for _ in range(24)]
        for lease in leases:
            lease.view[:] = b"x" * LARGEST
        used = private_dirty() - before
        assert used >= 44 * LARGEST
        for lease in leases[1:]:
            lease.release()
        memory.trim()
        assert private_dirty() - before < used / 8
        assert bytes(leases[0].view[:4]) == b"xxxx", "a live lease keeps its pages"


def private_dirty() -> int:
    """Bytes of this process that only it uses."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))


def every(take: Callable[[], Lease | None]) -> list[Lease]:
    """Take leases until there is none."""
    return list(iter(take, None))


def try_step(account: Account, at_least: int, at_most: int) -> Lease:
    lease = account.try_step(at_least, at_most)
    assert lease is not None
    return lease


class TestOtherKernels:
    def test_a_kernel_without_huge_pages_need_not_be_told_to_use_none(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mmap, "MADV_NOHUGEPAGE", 9999)  # advice that no kernel knows
        Memory(BUDGET).account("a").hold(PAGE).release()

    def test_where_pages_are_large_only_whole_ones_are_given_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(arena, "_SYSTEM_PAGE", 4 * PAGE)
        memory = Memory(BUDGET)
        account = memory.account("a")
        holds = [account.hold(PAGE) for _ in range(64)]
        for hold in holds:
            hold.view[:] = b"x" * PAGE
        kept = holds.pop(21)
        for hold in holds:
            hold.release()
        memory.trim()
        assert bytes(kept.view) == b"x" * PAGE
        kept.release()

    def test_more_memory_than_the_system_grants_is_told_with_what_to_do(self) -> None:
        with pytest.raises(BudgetError, match="set less with --memory"):
            Memory(1 << 50)


def test_a_process_that_is_forked_off_does_not_write_into_our_memory() -> None:
    memory = memoryview(anonymous(PAGE))

    def write() -> None:
        memory[:3] = b"its"

    child = multiprocessing.get_context("fork").Process(target=write)
    child.start()
    child.join()
    assert (child.exitcode, bytes(memory[:3])) == (0, bytes(3))
