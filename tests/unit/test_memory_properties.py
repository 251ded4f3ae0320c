"""The memory's promises, whatever happens in whatever order."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from circumvent.errors import BudgetError, LeaseError
from circumvent.memory import LARGEST, PAGE, SMALLEST_ARENA, Account, Lease, Memory

GUARANTEE = 9 * PAGE
LIMIT = 20 * PAGE
WORD = struct.Struct("=Q")

sizes = st.one_of(st.integers(1, 3 * PAGE), st.integers(1, LARGEST))
picks = st.integers(0, 1_000)


@dataclass(slots=True)
class Live:
    """A lease in use, and what was written all over it."""

    lease: Lease
    pattern: bytes
    is_step: bool

    def release(self) -> None:
        assert self.lease.view == self.pattern, "somebody else wrote into a live lease"
        self.lease.release()


@dataclass(slots=True)
class Waiting:
    """A task that waits for a step (``size`` is what it needs at least) or a charge."""

    task: asyncio.Task[Any]
    account: Account
    size: int


class MemoryMachine(RuleBasedStateMachine):
    """Users of the memory, one turn of the loop at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.live: list[Live] = []
        self.steps: list[Waiting] = []
        self.charges: list[Waiting] = []
        self.serial = 0

    @initialize(extra=st.integers(0, 40 * PAGE), foreign=st.integers(0, 30 * PAGE))
    def open(self, extra: int, foreign: int) -> None:
        arena = SMALLEST_ARENA + extra
        self.arena = arena // PAGE * PAGE
        self.memory = Memory(arena + foreign, arena, poison=True)
        self.accounts = [
            self.memory.account("plain"),
            self.memory.account("kept", guaranteed=GUARANTEE),
            self.memory.account("limited", limit=LIMIT),
        ]

    def teardown(self) -> None:
        try:
            if hasattr(self, "memory"):
                self.everything_returns()
        finally:
            self.loop.close()

    # --- what users do ------------------------------------------------------------------------

    @rule(pick=picks, size=sizes, more=st.integers(0, LARGEST))
    def try_step(self, pick: int, size: int, more: int) -> None:
        lease = self.account(pick).try_step(size, size + more)
        if lease is not None:
            self.turn()  # who was granted something before is no longer waiting
            self.collect()
            assert not self.steps, "somebody overtook those who wait"
            self.use(lease, size, is_step=True)

    @rule(pick=picks, size=sizes, more=st.integers(0, LARGEST))
    def step(self, pick: int, size: int, more: int) -> None:
        account = self.account(pick)
        task = self.loop.create_task(account.step(size, size + more))
        self.turn()
        self.steps.append(Waiting(task, account, size))
        self.collect()

    @rule(pick=picks)
    def exhaust(self, pick: int) -> None:
        """Take every block, then queue for another."""
        while (lease := self.account(pick).try_step(LARGEST, LARGEST)) is not None:
            self.use(lease, LARGEST, is_step=True)
        self.step(pick, LARGEST, 0)

    @rule(pick=picks, size=sizes)
    def try_hold(self, pick: int, size: int) -> None:
        lease = self.account(pick).try_hold(size)
        if lease is not None:
            self.use(lease, size, is_step=False)

    @rule(pick=picks, size=sizes)
    def charge(self, pick: int, size: int) -> None:
        account = self.account(pick)
        promised = account.durable + size <= account.guaranteed
        try:
            account.charge(size)
        except BudgetError:
            assert not promised, "a guarantee was not kept"

    @rule(pick=picks, size=sizes)
    def reserve(self, pick: int, size: int) -> None:
        account = self.account(pick)
        task = self.loop.create_task(account.reserve(size))
        self.turn()
        self.charges.append(Waiting(task, account, size))
        self.collect()

    @rule(pick=picks, share=st.floats(0, 1))
    def discharge(self, pick: int, share: float) -> None:
        self.collect()  # nobody gives back what he does not know yet that he got
        account = self.account(pick)
        account.discharge(int(share * account.charged))

    @precondition(lambda self: self.live)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        live = self.live.pop(pick % len(self.live))
        live.release()
        with pytest.raises(LeaseError):
            live.lease.release()

    @precondition(lambda self: self.steps or self.charges)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        """Possibly in the very turn in which the wish is granted; see ``turn``."""
        waiting = self.steps + self.charges
        waiting[pick % len(waiting)].task.cancel()

    @rule()
    def turn(self) -> None:
        """One turn of the loop: whoever was granted something or cancelled learns of it."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    @rule()
    def collect(self) -> None:
        """Users go on with what they were granted, always in the order in which they asked."""
        self.turn()
        plain = [asker for asker in self.charges if asker.account is self.accounts[0]]
        for waiting in (self.steps, plain):  # limits and guarantees of their own may reorder
            served = [asker.task.done() for asker in waiting if not has_failed(asker.task)]
            assert served == sorted(served, reverse=True), "not first come, first served"
        for asker in [asker for asker in self.steps if asker.task.done()]:
            self.steps.remove(asker)
            if not asker.task.cancelled():
                self.use(asker.task.result(), asker.size, is_step=True)
        for asker in [asker for asker in self.charges if asker.task.done()]:
            self.charges.remove(asker)
            if has_failed(asker.task) and not asker.task.cancelled():
                assert isinstance(asker.task.exception(), BudgetError)

    @rule()
    def trim(self) -> None:
        self.memory.trim()

    # --- what must hold -----------------------------------------------------------------------

    @rule()
    def nobody_starves(self) -> None:
        self.collect()
        first = next((asker for asker in self.steps if not asker.task.cancelling()), None)
        for live in [live for live in self.live if live.is_step]:
            self.live.remove(live)
            live.release()
        self.turn()
        assert first is None or first.task.done(), "the first in the queue starves"
        self.collect()

    @rule()
    def everything_returns(self) -> None:
        for asker in self.steps + self.charges:
            asker.task.cancel()
        self.collect()
        for live in self.live:
            live.release()
        self.live.clear()
        for account in self.accounts:
            account.discharge(account.charged)
        assert (self.memory.leased, self.memory.charged) == (0, 0)
        largest = self.accounts[0].try_step(LARGEST, LARGEST)
        assert largest is not None
        largest.release()

    @invariant()
    def the_budget_is_never_exceeded(self) -> None:
        if not hasattr(self, "memory"):
            return
        memory, accounts = self.memory, self.accounts
        undrawn = sum(max(0, account.guaranteed - account.durable) for account in accounts)
        assert memory.leased + memory.charged + undrawn <= memory.budget
        reserved = sum(max(0, account.guaranteed - account.held) for account in accounts)
        assert memory.leased + reserved <= self.arena
        assert memory.leased == sum(account.leased for account in accounts)
        assert memory.charged == sum(account.charged for account in accounts)
        assert all(account.durable <= account.limit for account in accounts)
        assert memory.leased + memory.charged <= memory.high_water <= memory.budget

    @invariant()
    def live_leases_are_accounted_for(self) -> None:
        if hasattr(self, "memory"):
            assert self.memory.leased >= sum(len(live.lease.view) for live in self.live)

    def account(self, pick: int) -> Account:
        return self.accounts[pick % len(self.accounts)]

    def use(self, lease: Lease, needed: int, *, is_step: bool) -> None:
        assert len(lease.view) >= needed
        self.serial += 1
        pattern = WORD.pack(self.serial) * (len(lease.view) // WORD.size)
        lease.view[:] = pattern
        self.live.append(Live(lease, pattern, is_step))


def has_failed(task: asyncio.Task[Any]) -> bool:
    """Cancelled, or told at once that what it wants can never be had: it leaves the queue."""
    return task.done() and (task.cancelled() or task.exception() is not None)


MemoryMachine.TestCase.settings = settings(stateful_step_count=40)
TestMemoryMachine = MemoryMachine.TestCase
