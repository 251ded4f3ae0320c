"""The state file after ``kill -9``."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from circumvent.state.attempts import MAX_ATTEMPTS
from tests.unit.conftest import OpenStore

# One interpreter imports our modules; each writer is a fork of it.
WRITERS = """
import os, sys
from pathlib import Path
from circumvent.state.attempts import Attempt
from circumvent.state.store import Store

def report(word):
    os.write(1, f"{word}\\n".encode())  # at once or not at all, whoever is killed

def write(number):
    store = Store(Path(sys.argv[1]))
    report(os.getpid())
    while True:
        for _ in range(20):
            store.attempts.record(Attempt(number, "race", "a", "dial", "ok"))
            store.scores.remember("home", "a", ok=True, ms=1, user_bytes=0)
        store.flush()
        report(number)
        number += 1

for line in sys.stdin:
    writer = os.fork()
    if not writer:
        write(int(line))
    os.waitpid(writer, 0)
    report("killed")
"""


def test_flushed_attempts_survive_kill_9_in_the_middle_of_writing(
    tmp_path: Path, opened: OpenStore
) -> None:
    path = tmp_path / "state.db"
    chance = random.Random(7)
    flushed = 0
    with subprocess.Popen(
        [sys.executable, "-c", WRITERS, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writers:
        for _ in range(8):
            flushed = _write_until_killed(writers, flushed + 1, chance.uniform(0.002, 0.03))
            warnings: list[str] = []
            store = opened(path, warnings.append)
            kept = [attempt.at for attempt in store.attempts.newest(MAX_ATTEMPTS)]
            store.close()
            assert warnings == []
            assert kept[0] >= flushed
            assert all(kept.count(at) == 20 for at in set(kept)), "half a transaction"
            flushed = int(kept[0])


def _write_until_killed(writers: subprocess.Popen[str], number: int, seconds: float) -> int:
    """Kill a writer some time after its first flush; returns the last flush it reported."""
    assert writers.stdin is not None
    assert writers.stdout is not None
    writers.stdin.write(f"{number}\n")
    writers.stdin.flush()
    writer = int(writers.stdout.readline())
    lines = [writers.stdout.readline()]
    time.sleep(seconds)
    os.kill(writer, signal.SIGKILL)
    lines += itertools.takewhile("killed\n".__ne__, writers.stdout)
    return int(lines[-1])
