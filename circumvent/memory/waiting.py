"""Users that wait for memory: first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from circumvent.memory.ledger import Balance

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class Waiter(Generic[_T]):
    """One user that waits; ``granted`` gives what is then already booked for it."""

    account: Balance
    at_least: int
    at_most: int
    granted: asyncio.Future[_T]


Grant = Callable[[Balance, int, int], _T | None]  # account, at_least, at_most; None: no room


class WaitingLine(Generic[_T]):
    """All users that wait for one kind of memory.

    ``give_back`` undoes a grant whose waiter was cancelled; ``left`` is called when a waiter left
    the line, since it may have held up those behind it.
    """

    __slots__ = ("_give_back", "_left", "waiters")

    def __init__(
        self, give_back: Callable[[Balance, _T], object], left: Callable[[], object]
    ) -> None:
        self.waiters: deque[Waiter[_T]] = deque()
        self._give_back = give_back
        self._left = left

    async def wait(self, account: Balance, at_least: int, at_most: int) -> _T:
        """Return what is granted when it is this waiter's turn."""
        granted: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        waiter = Waiter(account, at_least, at_most, granted)
        self.waiters.append(waiter)
        try:
            return await granted
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def _withdraw(self, waiter: Waiter[_T]) -> None:
        if waiter in self.waiters:
            self.waiters.remove(waiter)
        elif not waiter.granted.cancelled():
            self._give_back(
                waiter.account, waiter.granted.result()
            )  # granted and cancelled in one turn
        self._left()

    def serve_in_order(self, grant: Grant[_T]) -> None:
        """Serve from the front; the first one without room keeps all behind it waiting."""
        waiters = self.waiters
        while waiters:
            waiter = waiters[0]
            if not waiter.granted.done():  # done here is cancelled: its task will not have it
                granted = grant(waiter.account, waiter.at_least, waiter.at_most)
                if granted is None:
                    break
                waiter.granted.set_result(granted)
            waiters.popleft()

    def serve_each(self, grant: Grant[_T]) -> None:
        """Ask ``grant`` for each one; those who were refused are in ``waiters`` by then."""
        queue, self.waiters = self.waiters, deque()
        for waiter in queue:
            if waiter.granted.done():
                continue
            granted = grant(waiter.account, waiter.at_least, waiter.at_most)
            if granted is None:
                self.waiters.append(waiter)
            else:
                waiter.granted.set_result(granted)
