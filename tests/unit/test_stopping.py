"""The first signal drains, the second stops at once, a third kills."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 30.0  # seconds; each test takes less than one

PROGRAM = """
import asyncio, sys, time
from circumvent.cli.stopping import Stopper

def report(word):
    print(word, flush=True)

async def main(hangs, exit_after):
    with Stopper(lambda: report("drains"), exit_after=exit_after) as stopper:
        report("runs")
        await stopper.drain.wait()
        if hangs == "inside":
            await stopper.stop.wait()
            report("stops")
            time.sleep(60)
    report("leaves")
    if hangs == "outside":
        time.sleep(60)
    return stopper.exit_code

sys.exit(asyncio.run(main(sys.argv[1], float(sys.argv[2]))))
"""


@contextmanager
def program(hangs: str, exit_after: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, hangs, str(exit_after)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def signalled(process: subprocess.Popen[str], *after: str) -> int:
    """The exit code when a signal comes after each of these words."""
    assert process.stdout is not None
    for word in after:
        assert process.stdout.readline() == f"{word}\n"
        process.send_signal(signal.SIGINT)
    return process.wait(PATIENCE)


def test_a_second_signal_ends_a_command_that_hangs() -> None:
    with program("inside", 0.01) as process:
        assert signalled(process, "runs", "drains") == 130


def test_a_third_signal_kills_the_process() -> None:
    with program("inside", 60) as process:
        assert signalled(process, "runs", "drains", "stops") == -signal.SIGINT


def test_a_signal_after_the_context_exits_at_once() -> None:
    with program("outside", 60) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "drains\n"
        assert signalled(process, "leaves") == 130
