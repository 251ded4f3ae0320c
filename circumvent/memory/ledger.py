"""The ledger: how many bytes each account uses, and whether more may be used.

Two kinds of use. *Steps* are short leases: a read, a transformation, a write. *Durable* uses
are hold leases and charges for memory that a library allocates outside the arena. Invariants:

    steps + durable                        <=  budget
    durable + guarantees not yet drawn     <=  budget - step reserve
    steps + held + guarantees not drawn    <=  arena
    held + guarantees not yet drawn        <=  arena - step reserve

The second and the last keep ``step reserve`` bytes of the arena for steps alone: so data can always
move.
"""

from __future__ import annotations

from enum import IntEnum

from circumvent.errors import BudgetError, LeaseError
from circumvent.memory.arena import LARGEST, PAGE, pages_for

SMALLEST_ARENA = 2 * LARGEST  # one block for steps and as much for what must be kept
STEP_RESERVE_SHARE = 8  # an eighth: steps run one after the other, so a few blocks suffice


class Pressure(IntEnum):
    """How full the budget is, in percent; the tunnel manager decides what to give up."""

    CALM = 0
    SCARCE = 85
    CRITICAL = 95


class Balance:
    """What one user may use of the budget and does use; bytes."""

    def __init__(self, name: str, guaranteed: int, limit: int) -> None:
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
        """Whether ``size`` more durable bytes stay within the limit of this user."""
        return self.durable + size <= self.limit


class Ledger:
    """The totals of all balances; it knows no blocks and no waiting users.

    ``budget``: bytes, leases and charges together; ``arena``: how many of them can be leased
    (None: all). Raises BudgetError when that is too small.
    """

    def __init__(self, budget: int, arena: int | None) -> None:
        arena = min(budget, arena or budget)
        if arena < SMALLEST_ARENA:
            raise BudgetError(
                f"{arena} bytes of memory are too few: {SMALLEST_ARENA} at least", stage="memory"
            )
        self.budget = budget
        self.arena_size = arena // PAGE * PAGE
        self.step_reserve = pages_for(max(LARGEST, arena // STEP_RESERVE_SHARE)) * PAGE
        self.high_water = 0
        self.arena_high_water = 0
        self.leased = 0
        self.charged = 0
        self.steps = 0
        self._guaranteed = 0
        self._spoken_for = 0  # durable use, and guarantees not yet drawn
        self._held_for = 0  # the same of holds alone

    @property
    def pressure(self) -> Pressure:
        """How full the budget is."""
        percent = 100 * (self.leased + self.charged) // self.budget
        return max(level for level in Pressure if level <= percent)

    def enter(self, account: Balance) -> None:
        """Set aside what ``account`` is guaranteed; raises BudgetError when there is no room."""
        room = min(self.budget - self._spoken_for, self.arena_size - self._held_for)
        if account.guaranteed > room - self.step_reserve:
            raise BudgetError(
                f"memory budget: no room for {account.guaranteed} bytes guaranteed to"
                f" {account.name}",
                stage="memory",
            )
        self._guaranteed += account.guaranteed
        self._spoken_for += account.guaranteed
        self._held_for += account.guaranteed

    def strike(self, account: Balance) -> None:
        """Free the guarantee of an account; raises LeaseError while it uses anything."""
        if account.leased or account.charged:
            raise LeaseError(
                f"account {account.name} is closed with {account.leased} bytes leased"
                f" and {account.charged} charged"
            )
        self._guaranteed -= account.guaranteed
        self._spoken_for -= account.guaranteed
        self._held_for -= account.guaranteed

    def could_charge(self, account: Balance, size: int) -> bool:
        """Whether a charge would fit if nothing else were in use."""
        for_others = self._guaranteed - account.guaranteed
        return size <= min(account.limit, self.budget - self.step_reserve - for_others)

    def admits(self, account: Balance, size: int) -> bool:
        """Whether a durable use of ``size`` bytes keeps the invariants of the budget."""
        durable = account.held + account.charged
        if durable + size > account.limit:
            return False
        spoken_for = self._spoken_for + size
        if durable < account.guaranteed:
            spoken_for -= min(size, account.guaranteed - durable)
        # Steps in progress may stand in the reserve only: guarantees are kept at any moment.
        return spoken_for + max(self.step_reserve, self.steps) <= self.budget

    def admits_hold(self, account: Balance, size: int) -> bool:
        """As ``admits``, and whether it keeps the invariants of the arena."""
        held_for = self._held_for + size
        if account.held < account.guaranteed:
            held_for -= min(size, account.guaranteed - account.held)
        kept_for_steps = max(self.step_reserve, self.steps)  # as in ``admits``
        return held_for + kept_for_steps <= self.arena_size and self.admits(account, size)

    def book(self, account: Balance, *, held: int = 0, charged: int = 0) -> None:
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

    def book_step(self, account: Balance, size: int) -> None:
        """Change an account's use for steps and the totals together."""
        account.steps += size
        self.steps += size
        self.leased += size
        if size > 0:
            self._note_peaks(account)

    def _note_peaks(self, account: Balance) -> None:
        in_use = account.steps + account.held + account.charged
        if in_use > account.high_water:
            account.high_water = in_use
        if self.leased + self.charged > self.high_water:
            self.high_water = self.leased + self.charged
        if self.leased > self.arena_high_water:
            self.arena_high_water = self.leased
