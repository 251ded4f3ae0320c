"""What the client costs before a plugin is loaded: other people's phones are small."""

from __future__ import annotations

import compileall
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import circumvent

BUDGET = 20_000_000  # bytes of dirty memory
HEAVY = ("aiohttp", "dns", "websockets", "rich", "h11", "idna")

MEASURE = """
import json, sys
from pathlib import Path
import circumvent.cli
command_line = sorted(sys.modules)
import circumvent.cli.run, circumvent.client
rows = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines())
(kilobytes,) = (int(row[1]) for row in rows if row[0] == "Private_Dirty:")
measured = {
    "dirty": kilobytes * 1024, "command_line": command_line, "client": sorted(sys.modules)
}
json.dump(measured, sys.stdout)
"""


@dataclass(frozen=True)
class Imported:
    """What a fresh process loaded: with the command line alone, and with the client too.

    ``dirty`` is the memory of the client in bytes.
    """

    dirty: int
    command_line: frozenset[str]
    client: frozenset[str]


@pytest.fixture(scope="module")
def imported() -> Imported:
    # An installed client never compiles, which takes memory.
    compileall.compile_dir(Path(circumvent.__file__).parent, quiet=1)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    measured = json.loads(done.stdout)
    return Imported(
        measured["dirty"], frozenset(measured["command_line"]), frozenset(measured["client"])
    )


def test_the_client_with_its_command_line_stays_small(imported: Imported) -> None:
    print(f"dirty memory after all imports: {imported.dirty / 1e6:.1f} MB")
    assert imported.dirty < BUDGET


@pytest.mark.parametrize("heavy", HEAVY)
def test_heavy_libraries_are_imported_only_when_needed(imported: Imported, heavy: str) -> None:
    assert heavy not in imported.client


def test_no_plugin_is_imported_by_the_core(imported: Imported) -> None:
    assert [name for name in imported.client if name.startswith("circumvent_plugins")] == []


def test_the_command_line_alone_loads_little(imported: Imported) -> None:
    heavy = {"asyncio", "sqlite3", "msgspec", "platformdirs", "ssl", "cryptography"}
    assert not imported.command_line & heavy
