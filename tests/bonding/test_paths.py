"""What users get over three paths of 20 Mbit/s with 20, 60 and 150 ms, and while they are hurt.

Real processes, TLS carriers, shaped in user space. Figures are printed; the thresholds are those
below which bonding would not be worth its trouble.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import pytest

from tests.bonding.course import PATHS, Course, course, faults

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]

OBJECT = 1 << 20
BULK = 64 << 20
LONG = 192 << 20  # some eight faults
EVERY = 3.0  # seconds between faults
OUTAGE = 1.0  # seconds without any path


def mbit(size: int, seconds: float) -> float:
    return size * 8 / seconds / 1e6


@contextlib.asynccontextmanager
async def hurt(lane: Course, what: str) -> AsyncIterator[None]:
    task = asyncio.create_task(faults(lane, what, EVERY, OUTAGE))
    try:
        yield
    finally:
        task.cancel()


async def undisturbed(folder: Path) -> float:
    async with course(folder) as lane:
        return mbit(BULK, await lane.download(BULK))


async def test_three_paths_add_up(tmp_path: Path) -> None:
    async with course(tmp_path) as lane:
        rate = mbit(BULK, await lane.download(BULK))
        early = sorted(lane.reorder)
    p95 = early[int(0.95 * len(early))] / 1024
    print(f"{rate:.1f} Mbit/s of 60, reorder p95 {p95:.0f} KiB, peak {early[-1] / 1024:.0f} KiB")
    assert rate >= 54
    assert p95 <= 256


async def test_an_object_comes_sooner_than_over_the_best_path(tmp_path: Path) -> None:
    best = float("inf")
    for path in PATHS:
        async with course(tmp_path, [path]) as lane:
            best = min(best, median([await lane.download(OBJECT) for _ in range(3)]))
    async with course(tmp_path) as lane:
        times = []
        for _ in range(7):
            times.append(await lane.download(OBJECT))
            await asyncio.sleep(0.3)
    together = median(times)
    print(f"1 MiB: best path {best * 1000:.0f} ms, bonded {together * 1000:.0f} ms")
    assert best / together >= 1.8


@pytest.mark.parametrize(
    ("what", "share", "gap"), [("rst", 0.90, 0.3), ("freeze", 0.85, 0.6)], ids=["rst", "freeze"]
)
async def test_losing_the_busiest_carrier_is_hardly_felt(
    tmp_path: Path, what: str, share: float, gap: float
) -> None:
    before = await undisturbed(tmp_path)
    async with course(tmp_path) as lane:
        async with hurt(lane, what):
            rate = mbit(LONG, await lane.download(LONG))
        repeated = lane.repeated / lane.faults / 1024
        longest = max(lane.gaps)
    print(
        f"{what}: {rate:.1f} of {before:.1f} Mbit/s ({rate / before:.2f}), longest gap"
        f" {longest * 1000:.0f} ms, {lane.faults} faults, {repeated:.0f} KiB twice for each"
    )
    assert rate / before >= share
    assert longest <= gap
    assert repeated <= 500


async def test_after_all_paths_were_gone_it_resumes(tmp_path: Path) -> None:
    async with course(tmp_path) as lane:
        async with hurt(lane, "all"):
            await lane.download(BULK)
        longest = max(lane.gaps)
    print(f"resumed {(longest - OUTAGE) * 1000:.0f} ms after the paths were back")
    assert longest - OUTAGE <= 0.5
