"""``python -m tests.mutants [--each N] [--seed N] [--jobs N] [ROOM or MODULE...]``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from tests.mutants.faults import Mutant, sample
from tests.mutants.reach import ROOMS, Reach, Traced, modules
from tests.mutants.trial import Outcome, copy_tree, trace_tests, try_mutant

ROOT = Path(__file__).parents[2]
STAGES = ("unit", "conformance")  # both are fast
AIM = 0.92

parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
parser.add_argument("wanted", nargs="*", metavar="ROOM", default=ROOMS, help="as net or net/pump")
parser.add_argument("--each", type=int, default=3, help="mutants of each module")
parser.add_argument("--seed", type=int, default=1, help="another seed, another sample")
parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 1) + 1, help="at a time")
arguments = parser.parse_args()
started = time.monotonic()


def main() -> int:
    """Print what no test failed for, then what was killed in each room; 1 if it is too little."""
    names = modules(ROOT, arguments.wanted)
    mutants = [m for name in names for m in sample(ROOT, name, arguments.each, arguments.seed)]
    equivalent = (ROOT / "docs" / "mutants.md").read_text()
    mutants = [mutant for mutant in mutants if str(mutant) not in equivalent]
    killed: Counter[str] = Counter()
    for mutant, outcome in _tried(mutants):
        killed[_room(mutant)] += outcome is not Outcome.SURVIVED
        if outcome is not Outcome.KILLED:
            print(f"{outcome.value}, line {mutant.line}: {mutant}", flush=True)
    return _report(killed, Counter(map(_room, mutants)))


def _tried(mutants: list[Mutant]) -> Iterator[tuple[Mutant, Outcome]]:
    with (
        tempfile.TemporaryDirectory() as beside,
        ProcessPoolExecutor(
            arguments.jobs, get_context("fork"), copy_tree, (ROOT, Path(beside))
        ) as pool,
    ):
        reach = Reach(_traced(pool))
        tests = [reach.tests_of(mutant.module, mutant.line) for mutant in mutants]
        names = [[test.name for test in each] for each in tests]
        limits = [20 + 4 * sum(test.seconds for test in each) for each in tests]
        yield from zip(mutants, pool.map(try_mutant, mutants, names, limits), strict=True)


def _traced(pool: ProcessPoolExecutor) -> list[Traced]:
    found = (path for stage in STAGES for path in (ROOT / "tests" / stage).glob("test_*.py"))
    files = sorted(str(path.relative_to(ROOT)) for path in found)
    shares = [files[first :: arguments.jobs] for first in range(arguments.jobs)]
    traced = list(chain.from_iterable(pool.map(trace_tests, shares)))
    for each in traced:
        if each.has_failed:
            print(f"left out, it fails without a fault: {each.name}", flush=True)
    return [each for each in traced if not each.has_failed]


def _report(killed: Counter[str], total: Counter[str]) -> int:
    for room in total:
        print(f"{room:<12}{killed[room]:>4} of {total[room]:>4} killed")
    share = killed.total() / max(total.total(), 1)
    print(f"{'all':<12}{killed.total():>4} of {total.total():>4} killed, {share:.0%}")
    print(f"--each {arguments.each} --seed {arguments.seed}, {time.monotonic() - started:.0f} s")
    return int(share < AIM)


def _room(mutant: Mutant) -> str:
    return mutant.module.partition("/")[0]


if __name__ == "__main__":
    sys.exit(main())
