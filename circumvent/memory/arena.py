"""Page runs out of one anonymous mapping.

Step blocks come from the low end in a few classes; hold blocks come from the high end in any
number of pages and never below ``floor``. So when every step block is back, the pages below
``floor`` are one free run, whatever the holds look like. What comes back is kept warm for the
next one of its size.
"""

from __future__ import annotations

import mmap
import sys
from bisect import bisect_left, insort
from collections.abc import Iterator
from contextlib import suppress

from circumvent.errors import BudgetError

PAGE = 4096
# 4 to 260 KiB: 0, 1, 2, 4, 8 and 16 records of 16 KiB with a page for what surrounds them.
CLASSES = (1, 5, 9, 17, 33, 65)
LARGEST = CLASSES[-1] * PAGE
_DROP = getattr(mmap, "MADV_DONTNEED", None)
_SYSTEM_PAGE = mmap.PAGESIZE  # 16 or 64 KiB on some arm machines; it frees no less


def pages_for(size: int) -> int:
    """Pages that hold ``size`` bytes."""
    return -(-size // PAGE)


class FreeRuns:
    """Free page runs, coalesced, ordered by address."""

    def __init__(self, pages: int) -> None:
        self._starts = [0]
        self._length = {0: pages}

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((start, self._length[start]) for start in self._starts)

    def take_low(self, pages: int) -> int | None:
        """The lowest fitting run's first page, or None."""
        for start in self._starts:
            if self._length[start] >= pages:
                self._cut(start, start, pages)
                return start
        return None

    def take_high(self, pages: int, floor: int) -> int | None:
        """The highest fitting place at or above ``floor``, or None."""
        for start in reversed(self._starts):
            end = start + self._length[start]
            if end - pages < floor:
                return None
            if self._length[start] >= pages:
                self._cut(start, end - pages, pages)
                return end - pages
        return None

    def give(self, start: int, pages: int) -> None:
        """Return a run and join it with its neighbours."""
        index = bisect_left(self._starts, start)
        if index < len(self._starts) and self._starts[index] == start + pages:
            pages += self._length.pop(self._starts.pop(index))
        if index and self._starts[index - 1] + self._length[self._starts[index - 1]] == start:
            self._length[self._starts[index - 1]] += pages
            return
        insort(self._starts, start)
        self._length[start] = pages

    def _cut(self, start: int, at: int, pages: int) -> None:
        length = self._length.pop(start)
        self._starts.remove(start)
        if at > start:
            self.give(start, at - start)
        if at + pages < start + length:
            self.give(at + pages, start + length - at - pages)


class Arena:
    """The mapping and its free pages; it knows no budget and no accounts."""

    def __init__(self, pages: int, floor: int) -> None:
        self._map = anonymous(pages * PAGE)
        self.memory = memoryview(self._map)
        self._floor = floor
        self._free = FreeRuns(pages)
        self._warm_steps: dict[int, list[int]] = {pages: [] for pages in CLASSES}
        self._warm_holds: dict[int, list[int]] = {}

    def take_step(self, pages: int) -> int | None:
        """First page of a block of one of CLASSES, or None."""
        warm = self._warm_steps[pages]
        if warm:
            return warm.pop()
        start = self._free.take_low(pages)
        if start is None and self._cool():
            start = self._free.take_low(pages)
        return start

    def give_step(self, start: int, pages: int) -> None:
        """Take a step block back."""
        self._warm_steps[pages].append(start)

    def take_hold(self, pages: int) -> int | None:
        """First page of a block of any length, or None."""
        warm = self._warm_holds.get(pages)
        if warm:
            return warm.pop()
        start = self._free.take_high(pages, self._floor)
        if start is None and self._cool():
            start = self._free.take_high(pages, self._floor)
        return start

    def give_hold(self, start: int, pages: int) -> None:
        """Take a hold block back."""
        self._warm_holds.setdefault(pages, []).append(start)

    def trim(self) -> None:
        """Give the memory of every free page back to the system; the pages stay ours."""
        self._cool()
        if _DROP is None:
            return
        for start, pages in self._free:
            first = -(-start * PAGE // _SYSTEM_PAGE) * _SYSTEM_PAGE
            last = (start + pages) * PAGE // _SYSTEM_PAGE * _SYSTEM_PAGE
            if first < last:
                self._map.madvise(_DROP, first, last - first)

    def _cool(self) -> bool:
        """Return the warm blocks to the free runs; True if there were any."""
        cooled = False
        for warm in (self._warm_steps, self._warm_holds):
            for pages, starts in warm.items():
                for start in starts:
                    self._free.give(start, pages)
                cooled = cooled or bool(starts)
                starts.clear()
        return cooled


def anonymous(size: int) -> mmap.mmap:
    """``size`` bytes of zeros whose pages are made when they are first touched.

    Private where the system knows it: only then does MADV_DONTNEED free the pages, and a process
    that is forked off does not write into ours. Raises BudgetError.
    """
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    try:
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise BudgetError(
            f"the system does not grant {size} bytes of memory: set less with --memory",
            stage="memory",
            errno=error.errno,
        ) from error
    small_pages = getattr(mmap, "MADV_NOHUGEPAGE", None)
    if small_pages is not None:  # one huge page would make 2 MiB out of a 4 KiB lease
        with suppress(OSError):  # madvise(2): not every kernel is built with them
            mapping.madvise(small_pages)
    return mapping
