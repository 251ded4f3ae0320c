"""Accounts: the shares of the budget that its users lease, hold and charge from."""

from __future__ import annotations

from circumvent.errors import BudgetError, LeaseError
from circumvent.memory.arena import LARGEST, PAGE, pages_for
from circumvent.memory.lease import Allocator, Lease
from circumvent.memory.ledger import Balance


class Account(Balance):
    """One user's share of the budget (bytes). Create with ``Memory.account``."""

    def __init__(self, memory: Memory, name: str, guaranteed: int, limit: int) -> None:
        super().__init__(name, guaranteed, limit)
        self.memory = memory

    def try_step(self, at_least: int, at_most: int) -> Lease | None:
        """A block for one step if one is free and no other user waits; see ``step``."""
        if at_least > LARGEST:
            raise BudgetError(
                f"a step of {at_least} bytes is larger than any block ({LARGEST})", stage="memory"
            )
        memory = self.memory
        return None if memory.step_line.waiters else memory.grant_step(self, at_least, at_most)

    async def step(self, at_least: int, at_most: int) -> Lease:
        """A block of at least ``at_least`` bytes, about ``at_most`` if there is room.

        Waits its turn (first come, first served). Raises BudgetError when ``at_least`` can
        never be had.
        """
        return self.try_step(at_least, at_most) or await self.memory.step_line.wait(
            self, at_least, at_most
        )

    def try_hold(self, size: int) -> Lease | None:
        """A block that may be kept, of ``size`` bytes rounded up to pages; None if no room."""
        memory, pages = self.memory, max(1, pages_for(size))
        if not memory.admits_hold(self, pages * PAGE):
            return None
        start = memory.arena.take_hold(pages)
        if start is None:
            return None
        memory.book(self, held=pages * PAGE)
        return Lease(memory, self, start, pages, is_step=False)

    def hold(self, size: int) -> Lease:
        """As ``try_hold``, but raises BudgetError when there is no room."""
        lease = self.try_hold(size)
        if lease is None:
            raise BudgetError(
                f"memory budget: {self.name} cannot keep {size} bytes", stage="memory"
            )
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
            raise BudgetError(
                f"memory budget: {self.name} asks for {size} bytes and there is no room",
                stage="memory",
            )

    async def reserve(self, size: int) -> None:
        """As ``charge``, but waits its turn; BudgetError only when it can never fit."""
        if self.try_charge(size):
            return
        if not self.memory.could_charge(self, size):
            raise BudgetError(
                f"memory budget: {self.name} asks for {size} bytes, more than there are",
                stage="memory",
            )
        await self.memory.charge_line.wait(self, size, size)

    def discharge(self, size: int) -> None:
        """Undo a charge; raises LeaseError when more is given back than was taken."""
        if size > self.charged:
            raise LeaseError(f"{self.name} gives back {size} bytes but was charged {self.charged}")
        self.memory.book(self, charged=-size)
        self.memory.serve()


class Memory(Allocator):
    """The arena and all accounts in it.

    ``budget``: bytes, leases and charges together; ``arena``: how many of them can be leased
    (None: all). ``poison`` overwrites released blocks. Raises BudgetError when either
    is too small.
    """

    def __init__(self, budget: int, arena: int | None = None, *, poison: bool = False) -> None:
        super().__init__(budget, arena, poison=poison)
        self.accounts: dict[str, Account] = {}

    def account(self, name: str, guaranteed: int = 0, limit: int | None = None) -> Account:
        """Open the account ``name``, or return it.

        Raises BudgetError when the guarantee cannot be kept.
        """
        if name in self.accounts:
            return self.accounts[name]
        account = Account(self, name, guaranteed, self.budget if limit is None else limit)
        self.enter(account)
        self.accounts[name] = account
        return account

    def close(self, account: Account) -> None:
        """Forget an account that holds nothing; raises LeaseError otherwise."""
        if self.accounts.get(account.name) is account:
            self.strike(account)
            del self.accounts[account.name]
            self.serve()
