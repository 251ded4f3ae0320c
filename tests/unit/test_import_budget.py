"""What the client costs before a plugin is loaded: other people's phones are small."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

BUDGET = 20_000_000  # bytes of dirty memory
HEAVY = ("aiohttp", "dns", "websockets", "rich", "h11", "idna")

MEASURE = """
import importlib, json, sys
from pathlib import Path
for module in sys.argv[1:]:
    importlib.import_module(module)
rows = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines())
(kilobytes,) = (int(row[1]) for row in rows if row[0] == "Private_Dirty:")
json.dump({"dirty": kilobytes * 1024, "modules": sorted(sys.modules)}, sys.stdout)
"""


def imported(*modules: str) -> tuple[int, set[str]]:
    """Dirty bytes and loaded modules of a fresh process that imports only these.

    The second of two, so that nothing is compiled in it: an installed client never does that.
    """
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, *modules],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
            capture_output=True,
            text=True,
            check=True,
        )
    measured = json.loads(done.stdout)
    return measured["dirty"], set(measured["modules"])


@pytest.fixture(scope="module")
def client() -> tuple[int, set[str]]:
    return imported("circumvent.cli", "circumvent.cli.run", "circumvent.client")


def test_the_client_with_its_command_line_stays_small(client: tuple[int, set[str]]) -> None:
    dirty, _ = client
    print(f"dirty memory after all imports: {dirty / 1e6:.1f} MB")
    assert dirty < BUDGET


@pytest.mark.parametrize("heavy", HEAVY)
def test_heavy_libraries_wait_for_who_needs_them(client: tuple[int, set[str]], heavy: str) -> None:
    _, modules = client
    assert heavy not in modules


def test_no_plugin_is_imported_by_the_core(client: tuple[int, set[str]]) -> None:
    _, modules = client
    assert [name for name in modules if name.startswith("circumvent_plugins")] == []


def test_the_command_line_alone_loads_little() -> None:
    _, modules = imported("circumvent.cli")
    assert not modules & {"asyncio", "sqlite3", "msgspec", "platformdirs", "ssl", "cryptography"}
