"""``python -m tests.fuzz [--runs N] [--keep] [TARGET...]``."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.running import fuzz
from tests.fuzz.targets import TARGETS

parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
parser.add_argument("--runs", type=int, default=100_000, help="inputs for each target")
parser.add_argument("--keep", action="store_true", help="add what reached new code to the corpus")
arguments = parser.parse_args()

failed = False
for name in arguments.targets or TARGETS:
    started = time.monotonic()
    report = fuzz(name, arguments.runs, keep=arguments.keep)
    seconds = time.monotonic() - started
    verdict = "FAILED" if report.failed else "ok"
    print(
        f"{name:<13}{verdict:>7}{report.runs:>10} inputs{seconds:>6.0f} s"
        f"{report.coverage:>6} branches{report.peak_mib:>5} MiB"
    )
    if report.failed:
        print(report.output)
    failed |= report.failed
sys.exit(failed)
