"""Leases: blocks of the arena, and the allocator that grants them and takes them back."""

from __future__ import annotations

from bisect import bisect_left
from typing import Self

from circumvent.errors import LeaseError
from circumvent.memory.arena import CLASSES, LARGEST, PAGE, Arena, pages_for
from circumvent.memory.ledger import Balance, Ledger
from circumvent.memory.waiting import WaitingLine

_POISON = 0xDD
# By the pages that are wanted: the smallest class that holds them, then the smaller ones.
_CLASSES_DOWN_FROM = tuple(
    CLASSES[: bisect_left(CLASSES, wanted) + 1][::-1] for wanted in range(CLASSES[-1] + 1)
)


class Lease:
    """A block of the arena; ``view`` is all of it. Usable as a context manager."""

    __slots__ = ("_account", "_allocator", "_is_step", "_pages", "_start", "view")

    def __init__(
        self, allocator: Allocator, account: Balance, start: int, pages: int, *, is_step: bool
    ) -> None:
        self._allocator = allocator
        self._account = account
        self._start = start
        self._pages = pages
        self._is_step = is_step
        self.view = allocator.arena.memory[start * PAGE : (start + pages) * PAGE]

    def release(self) -> None:
        """Give the block back; raises LeaseError the second time."""
        if not self._pages:
            raise LeaseError("a lease was released twice")
        allocator = self._allocator
        if allocator.poison:
            self.view[:] = bytes((_POISON,)) * len(self.view)
        self.view.release()
        pages, self._pages = self._pages, 0
        allocator.take_back(self._account, self._start, pages, is_step=self._is_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Allocator(Ledger):
    """The arena, its leases, charges beside it, and the users that wait for either.

    ``poison`` overwrites released blocks.
    """

    def __init__(self, budget: int, arena: int | None, *, poison: bool) -> None:
        super().__init__(budget, arena)
        self.arena = Arena(self.arena_size // PAGE, self.step_reserve // PAGE)
        self.poison = poison
        self.step_line: WaitingLine[Lease] = WaitingLine(_release, self.serve)
        self.charge_line: WaitingLine[int] = WaitingLine(self._undo_charge, self.serve)
        self._has_returned = False

    @property
    def charges_wait(self) -> bool:
        """Whether a user waits for a charge that its own limit would allow."""
        return any(waiter.account.allows(waiter.at_least) for waiter in self.charge_line.waiters)

    def trim(self) -> None:
        """Return idle pages to the system, if any block came back since the last time."""
        if self._has_returned:
            self._has_returned = False
            self.arena.trim()

    def grant_step(self, account: Balance, at_least: int, at_most: int) -> Lease | None:
        """The largest free class between ``at_least`` and the class above ``at_most``."""
        free = min(self.budget - self._spoken_for, self.arena_size - self._held_for) - self.steps
        for pages in _CLASSES_DOWN_FROM[pages_for(min(max(at_least, at_most), LARGEST))]:
            size = pages * PAGE
            if size < at_least:
                break
            if size > free:
                continue
            start = self.arena.take_step(pages)
            if start is not None:
                self.book_step(account, size)
                return Lease(self, account, start, pages, is_step=True)
        return None

    def take_back(self, account: Balance, start: int, pages: int, *, is_step: bool) -> None:
        """A lease ends."""
        self._has_returned = True
        if is_step:
            self.arena.give_step(start, pages)
            self.book_step(account, -pages * PAGE)
        else:
            self.arena.give_hold(start, pages)
            self.book(account, held=-pages * PAGE)
        if self.step_line.waiters or self.charge_line.waiters:
            self.serve()

    def may_charge(self, account: Balance, size: int) -> bool:
        """Whether a charge fits, and is guaranteed or overtakes no waiting one."""
        if account.durable + size <= min(account.guaranteed, account.limit):
            return True
        return not self.charges_wait and self.admits(account, size)

    def serve(self) -> None:
        """Serve the users that wait, in order, as far as there is room.

        A charge that waits holds up those behind it, unless the limit of its account is why.
        """
        if self.step_line.waiters:
            self.step_line.serve_in_order(self.grant_step)
        if self.charge_line.waiters:
            self.charge_line.serve_each(self._grant_charge)

    def _grant_charge(self, account: Balance, size: int, _: int) -> int | None:
        if not self.may_charge(account, size):
            return None
        self.book(account, charged=size)
        return size

    def _undo_charge(self, account: Balance, size: int) -> None:
        self.book(account, charged=-size)


def _release(_: Balance, lease: Lease) -> None:
    lease.release()
