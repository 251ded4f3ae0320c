"""Runs one target in a process of its own, for libFuzzer ends the process that it is in."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz import corpus

MAX_INPUT = 4096  # bytes; longer ones are tried by hand in the unit tests
MAX_MEMORY = 256  # MiB, the instrumented interpreter included; more than that is a finding
MAX_SECONDS = 5  # for one input; more than that is a finding
LIMITS = (f"-max_len={MAX_INPUT}", f"-rss_limit_mb={MAX_MEMORY}", f"-timeout={MAX_SECONDS}")


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it; ``output`` is libFuzzer's."""

    runs: int
    peak_mib: int
    coverage: int
    failed: bool
    output: str


def fuzz(target: str, runs: int, *, keep: bool = False) -> Report:
    """Try ``runs`` inputs; with ``keep``, what reached new code joins the corpus."""
    with TemporaryDirectory() as name:
        place = Path(name)
        kept = corpus.unpack(corpus.load(target), place / "kept")
        found = corpus.unpack((), place / "found")
        done = _run(place, target, str(found), str(kept), f"-runs={runs}", "-print_final_stats=1")
        if keep and done.returncode == 0:
            _run(place, target, "-merge=1", str(kept), str(found)).check_returncode()
            corpus.save(target, corpus.collect(kept))
    return Report(
        runs=_figure(r"number_of_executed_units: (\d+)", done.stderr),
        peak_mib=_figure(r"peak_rss_mb: +(\d+)", done.stderr),
        coverage=_figure(r"DONE +cov: (\d+)", done.stderr),
        failed=done.returncode != 0,
        output=done.stdout + done.stderr,
    )


def _run(place: Path, target: str, *options: str) -> subprocess.CompletedProcess[str]:
    artifacts = (f"-artifact_prefix={place}/",)
    called = [sys.executable, "-m", "tests.fuzz.child", target, *options, *LIMITS, *artifacts]
    # The peak of memory outlives exec: a child of ours would begin with that of all our tests.
    return subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", *called],
        capture_output=True,
        errors="replace",
        check=False,
        text=True,
    )


def _figure(pattern: str, output: str) -> int:
    found = re.search(pattern, output)
    return int(found[1]) if found else 0
