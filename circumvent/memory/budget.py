"""The budget: one number of bytes that all accounts share and nothing ever exceeds.

Two kinds of use. *Steps* are short leases: a read, a transformation, a write. *Durable* uses
are hold leases and charges for memory that a library allocates outside the arena. Invariants:

    steps + durable                        <=  budget
    durable + guarantees not yet drawn     <=  budget - step reserve
    steps + held + guarantees not drawn    <=  arena
    held + guarantees not yet drawn        <=  arena - step reserve

The second and the last keep ``step reserve`` bytes of the arena for steps alone, so data always
moves.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from circumvent.errors import BudgetError, LeaseError
from circumvent.memory.arena import CLASSES, LARGEST, PAGE, Arena, pages_for

SMALLEST_ARENA = 2 * LARGEST  # one block for steps and as much for what must be kept
STEP_RESERVE_SHARE = 8  # an eighth: steps run one after the other, so a few blocks suffice
_POISON = 0xDD
# By the pages that are wanted: the smallest class that holds them, then the smaller ones.
_CLASSES_DOWN_FROM = tuple(
    CLASSES[: bisect_left(CLASSES, wanted) + 1][::-1] for wanted in range(CLASSES[-1] + 1)
)


class Pressure(IntEnum):
    """How full the budget is; what to give up at each level is the tunnel manager's business."""

    CALM = 0
    SCARCE = 85
    CRITICAL = 95


class Lease:
    """A block of the arena; ``view`` is all of it. Usable as a context manager."""

    __slots__ = ("_account", "_pages", "_start", "_step", "view")

    def __init__(self, account: Account, start: int, pages: int, *, step: bool) -> None:
        self._account = account
        self._start = start
        self._pages = pages
        self._step = step
        self.view = account.memory.arena.memory[start * PAGE : (start + pages) * PAGE]

    def release(self) -> None:
        """Give the block back; raises LeaseError the second time."""
        if not self._pages:
            message = "a lease was released twice"
            raise LeaseError(message)
        memory = self._account.memory
        if memory.poison:
            self.view[:] = bytes((_POISON,)) * len(self.view)
        self.view.release()
        pages, self._pages = self._pages, 0
        memory.take_back(self._account, self._start, pages, step=self._step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Account:
    """One user's share of the budget (bytes). Create with ``Memory.account``."""

    def __init__(self, memory: Memory, name: str, guaranteed: int, limit: int) -> None:
        self.memory = memory
        self.name = name
        self.guaranteed = guaranteed
        self.limit = limit
        self.steps = 0
        self.held = 0
        self.charged = 0
        self.high_water = 0

    @property
    def leased(self) -> int:
        """Bytes of the arena in use."""
        return self.steps + self.held

    @property
    def durable(self) -> int:
        """Bytes held or charged."""
        return self.held + self.charged

    def allows(self, size: int) -> bool:
        """Whether ``size`` more durable bytes stay below the account's own limit."""
        return self.durable + size <= self.limit

    def try_step(self, at_least: int, at_most: int) -> Lease | None:
        """A block for one step if one is free and nobody waits; see ``step``."""
        if at_least > LARGEST:
            message = f"a step of {at_least} bytes is larger than any block ({LARGEST})"
            raise BudgetError(message, stage="memory")
        if self.memory.steps_wait:
            return None
        return self.memory.grant_step(self, at_least, at_most)

    async def step(self, at_least: int, at_most: int) -> Lease:
        """A block of at least ``at_least`` bytes, about ``at_most`` if there is room.

        Waits its turn (first come, first served). Raises BudgetError when ``at_least`` can
        never be had.
        """
        return self.try_step(at_least, at_most) or await self.memory.wait_step(
            self, at_least, at_most
        )

    def try_hold(self, size: int) -> Lease | None:
        """A block that may be kept, of ``size`` bytes rounded up to pages; None if no room."""
        pages = max(1, pages_for(size))
        if not self.memory.admits_hold(self, pages * PAGE):
            return None
        start = self.memory.arena.take_hold(pages)
        if start is None:
            return None
        self.memory.book(self, held=pages * PAGE)
        return Lease(self, start, pages, step=False)

    def hold(self, size: int) -> Lease:
        """As ``try_hold``, but raises BudgetError when there is no room."""
        lease = self.try_hold(size)
        if lease is None:
            message = f"memory budget: {self.name} cannot keep {size} bytes"
            raise BudgetError(message, stage="memory")
        return lease

    def try_charge(self, size: int) -> bool:
        """Book memory that is allocated outside the arena; False if there is no room."""
        if not self.memory.may_charge(self, size):
            return False
        self.memory.book(self, charged=size)
        return True

    def charge(self, size: int) -> None:
        """As ``try_charge``, but raises BudgetError when there is no room."""
        if not self.try_charge(size):
            message = f"memory budget: {self.name} asks for {size} bytes and there is no room"
            raise BudgetError(message, stage="memory")

    async def reserve(self, size: int) -> None:
        """As ``charge``, but waits its turn; BudgetError only when it can never fit."""
        if not self.try_charge(size):
            await self.memory.wait_charge(self, size)

    def discharge(self, size: int) -> None:
        """Undo a charge; raises LeaseError when more is given back than was taken."""
        if size > self.charged:
            message = f"{self.name} gives back {size} bytes but was charged {self.charged}"
            raise LeaseError(message)
        self.memory.book(self, charged=-size)
        self.memory.wake()


@dataclass(slots=True)
class _Waiter:
    account: Account
    granted: asyncio.Future[Lease | None]
    at_least: int
    at_most: int = 0


class Memory:
    """The arena, the accounts and who waits.

    ``budget``: bytes, leases and charges together; ``arena``: how many of them can be leased
    (all, unless said). ``poison`` overwrites released blocks. Raises BudgetError when either
    is too small.
    """

    def __init__(self, budget: int, arena: int | None = None, *, poison: bool = False) -> None:
        arena = min(budget, arena or budget)
        if arena < SMALLEST_ARENA:
            message = f"{arena} bytes of memory are too few: {SMALLEST_ARENA} at least"
            raise BudgetError(message, stage="memory")
        self.budget = budget
        share = max(LARGEST, arena // STEP_RESERVE_SHARE)
        self.step_reserve = pages_for(share) * PAGE
        self.arena_size = arena // PAGE * PAGE
        self.arena = Arena(arena // PAGE, self.step_reserve // PAGE)
        self.accounts: dict[str, Account] = {}
        self.poison = poison
        self.high_water = 0
        self.arena_high_water = 0
        self.leased = 0
        self.charged = 0
        self._steps = 0
        self._spoken_for = 0  # durable use, and guarantees not yet drawn
        self._held_for = 0  # the same of holds alone
        self._step_waiters: deque[_Waiter] = deque()
        self._charge_waiters: deque[_Waiter] = deque()
        self._stirred = False

    def account(self, name: str, guaranteed: int = 0, limit: int | None = None) -> Account:
        """Open the account ``name``, or return it.

        Raises BudgetError when the guarantee cannot be kept.
        """
        if name in self.accounts:
            return self.accounts[name]
        room = min(self.budget - self._spoken_for, self.arena_size - self._held_for)
        if guaranteed > room - self.step_reserve:
            message = f"memory budget: no room for {guaranteed} bytes guaranteed to {name}"
            raise BudgetError(message, stage="memory")
        account = Account(self, name, guaranteed, self.budget if limit is None else limit)
        self.accounts[name] = account
        self._spoken_for += guaranteed
        self._held_for += guaranteed
        return account

    def close(self, account: Account) -> None:
        """Forget an account that holds nothing; raises LeaseError otherwise."""
        if account.leased or account.charged:
            message = f"account {account.name} is closed with {account.leased} bytes leased"
            raise LeaseError(message)
        if self.accounts.pop(account.name, None):
            self._spoken_for -= account.guaranteed
            self._held_for -= account.guaranteed
            self.wake()

    @property
    def pressure(self) -> Pressure:
        """How full the budget is."""
        percent = 100 * (self.leased + self.charged) // self.budget
        return max(level for level in Pressure if level <= percent)

    @property
    def steps_wait(self) -> bool:
        """Whether somebody waits for a step lease."""
        return bool(self._step_waiters)

    @property
    def charges_wait(self) -> bool:
        """Whether somebody waits for a charge that only the others keep from it."""
        return any(waiter.account.allows(waiter.at_least) for waiter in self._charge_waiters)

    def trim(self) -> None:
        """Return idle pages to the system, if any block came back since the last time."""
        if self._stirred:
            self._stirred = False
            self.arena.trim()

    # What follows is for Account and Lease.

    def may_charge(self, account: Account, size: int) -> bool:
        """Whether a charge fits and is either guaranteed or overtakes nobody."""
        if account.durable + size <= min(account.guaranteed, account.limit):
            return True
        return not self.charges_wait and self.admits(account, size)

    def admits(self, account: Account, size: int) -> bool:
        """Whether a durable use of ``size`` bytes keeps both invariants."""
        durable = account.held + account.charged
        if durable + size > account.limit:
            return False
        spoken_for = self._spoken_for + size
        if durable < account.guaranteed:
            spoken_for -= min(size, account.guaranteed - durable)
        # Steps in progress may stand in the reserve only: guarantees are kept at any moment.
        return spoken_for + max(self.step_reserve, self._steps) <= self.budget

    def admits_hold(self, account: Account, size: int) -> bool:
        """As ``admits``, of the arena as well."""
        held_for = self._held_for + size
        if account.held < account.guaranteed:
            held_for -= min(size, account.guaranteed - account.held)
        kept_for_steps = max(self.step_reserve, self._steps)  # as in ``admits``
        return held_for + kept_for_steps <= self.arena_size and self.admits(account, size)

    def grant_step(self, account: Account, at_least: int, at_most: int) -> Lease | None:
        """The largest free class between ``at_least`` and the class above ``at_most``."""
        free = min(self.budget - self._spoken_for, self.arena_size - self._held_for) - self._steps
        for pages in _CLASSES_DOWN_FROM[pages_for(min(max(at_least, at_most), LARGEST))]:
            size = pages * PAGE
            if size < at_least:
                break
            if size > free:
                continue
            start = self.arena.take_step(pages)
            if start is not None:
                self._book_step(account, size)
                return Lease(account, start, pages, step=True)
        return None

    async def wait_step(self, account: Account, at_least: int, at_most: int) -> Lease:
        """Queue for a step lease."""
        waiter = _Waiter(account, asyncio.get_running_loop().create_future(), at_least, at_most)
        self._step_waiters.append(waiter)
        try:
            lease = await waiter.granted
        except asyncio.CancelledError:
            self._withdraw(self._step_waiters, waiter)
            raise
        assert lease is not None  # noqa: S101 - for the checker: steps are granted as leases
        return lease

    async def wait_charge(self, account: Account, size: int) -> None:
        """Queue for a charge."""
        guaranteed_to_others = sum(
            other.guaranteed for other in self.accounts.values() if other is not account
        )
        if size > min(account.limit, self.budget - self.step_reserve - guaranteed_to_others):
            message = f"memory budget: {account.name} asks for {size} bytes, more than there are"
            raise BudgetError(message, stage="memory")
        waiter = _Waiter(account, asyncio.get_running_loop().create_future(), size)
        self._charge_waiters.append(waiter)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            self._withdraw(self._charge_waiters, waiter)
            raise

    def take_back(self, account: Account, start: int, pages: int, *, step: bool) -> None:
        """A lease ends."""
        self._stirred = True
        if step:
            self.arena.give_step(start, pages)
            self._book_step(account, -pages * PAGE)
        else:
            self.arena.give_hold(start, pages)
            self.book(account, held=-pages * PAGE)
        if self._step_waiters or self._charge_waiters:
            self.wake()

    def book(self, account: Account, *, held: int = 0, charged: int = 0) -> None:
        """Change an account's durable use and the totals together."""
        before = after = account.held + account.charged
        after += held + charged
        guaranteed = account.guaranteed
        if before < guaranteed or after < guaranteed:
            self._spoken_for += max(after, guaranteed) - max(before, guaranteed)
        else:
            self._spoken_for += after - before
        if held:
            held_before = account.held
            account.held += held
            if held_before < guaranteed or account.held < guaranteed:
                self._held_for += max(account.held, guaranteed) - max(held_before, guaranteed)
            else:
                self._held_for += held
        account.charged += charged
        self.leased += held
        self.charged += charged
        if after > before:
            self._note_peaks(account)

    def _book_step(self, account: Account, size: int) -> None:
        account.steps += size
        self._steps += size
        self.leased += size
        if size > 0:
            self._note_peaks(account)

    def _note_peaks(self, account: Account) -> None:
        in_use = account.steps + account.held + account.charged
        if in_use > account.high_water:
            account.high_water = in_use
        if self.leased + self.charged > self.high_water:
            self.high_water = self.leased + self.charged
        if self.leased > self.arena_high_water:
            self.arena_high_water = self.leased

    def wake(self) -> None:
        """Serve those who wait, in order, as far as there is room."""
        while self._step_waiters:
            waiter = self._step_waiters[0]
            if not waiter.granted.done():  # done here is cancelled: its task will not have it
                lease = self.grant_step(waiter.account, waiter.at_least, waiter.at_most)
                if lease is None:
                    break
                waiter.granted.set_result(lease)
            self._step_waiters.popleft()
        if self._charge_waiters:
            self._serve_charges()

    def _serve_charges(self) -> None:
        """Those who stay waiting keep back those behind them, unless their own limit is why."""
        queue, self._charge_waiters = self._charge_waiters, deque()
        for waiter in queue:
            if waiter.granted.done():
                continue
            if self.may_charge(waiter.account, waiter.at_least):
                self.book(waiter.account, charged=waiter.at_least)
                waiter.granted.set_result(None)
            else:
                self._charge_waiters.append(waiter)

    def _withdraw(self, queue: deque[_Waiter], waiter: _Waiter) -> None:
        if waiter in queue:
            queue.remove(waiter)
        elif waiter.granted.done() and not waiter.granted.cancelled():
            self._give_back(waiter)
        self.wake()

    def _give_back(self, waiter: _Waiter) -> None:
        """Granted and cancelled in the same turn of the loop."""
        lease = waiter.granted.result()
        if lease is None:
            waiter.account.discharge(waiter.at_least)
        else:
            lease.release()
