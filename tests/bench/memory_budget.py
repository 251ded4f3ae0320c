"""``python -m tests.bench.memory_budget``: where a running client's memory goes, as a table.

Dirty memory of the process, step by step: a bare interpreter, what is imported, a running client
with three tunnels, streams that move bytes, streams that idle. What it says of its own arena and
charges stands beside what the kernel says of the process.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.contenders import OURS, Running, started, started_origin
from tests.bench.load import Load
from tests.bench.measures import MIB, SETTLE, hold_used_streams
from tests.bench.proc import dirty_kib
from tests.e2e.asking import await_tunnels, status
from tests.e2e.nodes import three_nodes

CORE = "import circumvent.cli, circumvent.cli.run, circumvent.client"
PLUGINS = "from circumvent.plugins import load_plugins; load_plugins()"
IMPORTS = (
    ("a bare interpreter", "pass"),
    ("command line and core", CORE),
    ("the four plugins", f"{CORE}\n{PLUGINS}"),
)
STREAMS = 200
MOVING = 40
MOVED = 4 * MIB  # by each of them


@dataclass(frozen=True, slots=True)
class Step:
    """What the process had written (KiB) at a step, and what it said of its arena (bytes)."""

    name: str
    dirty: int
    leased: int = 0
    charged: int = 0
    high_water: int = 0


def imports() -> list[Step]:
    """Fresh processes that only import."""
    return [Step(name, dirty_after(code)) for name, code in IMPORTS]


def dirty_after(code: str) -> int:
    """KiB that a process has written when it has run ``code``."""
    ask = (
        f"{code}\nimport os; from tests.bench.proc import dirty_kib; print(dirty_kib(os.getpid()))"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return int(done.stdout)


def running() -> list[Step]:
    """A client over three servers of three transports."""
    with (
        tempfile.TemporaryDirectory() as name,
        started_origin(Path(name)) as origin,
        three_nodes(Path(name)) as nodes,
        started(OURS, [node.endpoint for node in nodes], Path(name), origin) as client,
    ):
        await_tunnels(client, len(nodes))
        time.sleep(SETTLE)
        steps = [look(client, "three tunnels up, no stream")]
        move(client)
        steps.append(look(client, f"after {MOVING} streams moved {MOVED // MIB} MiB each"))
        held = hold_used_streams(client, STREAMS)
        return [*steps, Step(f"{STREAMS} streams idle after 10 MB each way", held)]


def move(client: Running) -> None:
    """Many streams at the same time."""
    load = Load(client.through)
    load.run((load.fetch(MOVED) for _ in range(MOVING)), at_once=MOVING)


def look(client: Running, name: str) -> Step:
    """What the kernel and the client say now."""
    memory = status(client).memory
    dirty = dirty_kib(client.process.pid)
    return Step(name, dirty, memory.leased, memory.charged, memory.high_water)


def table(steps: list[Step]) -> str:
    """Markdown, in units of 1,000,000 bytes."""
    lines = [
        "| | dirty MB | more than before | leased | charged | high-water |",
        "|---|" + "---:|" * 5,
    ]
    before = 0
    for step in steps:
        own = [f"{value / 1e6:.2f}" if value else "" for value in (step.leased, step.charged)]
        high = f"{step.high_water / 1e6:.2f}" if step.high_water else ""
        more = (step.dirty - before) * 1024 / 1e6
        row = [step.name, f"{step.dirty * 1024 / 1e6:.1f}", f"{more:+.1f}", *own, high]
        lines.append(f"| {' | '.join(row)} |")
        before = step.dirty
    return "\n".join(lines)


if __name__ == "__main__":
    print(table([*imports(), *running()]))
