"""Which unit tests reach which functions, and so which of them have to find a fault."""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Generator
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from types import CodeType, FrameType

import pytest

ROOMS = ("wire", "memory", "net", "session", "tunnels", "discovery")

# Some seconds of tests for a fault that nobody finds; mostly these are all that reach it.
_MOST = 600


@dataclass(frozen=True)
class Function:
    """A module as in ``net/pump``, and the first and the last line of a function in it."""

    module: str
    first: int
    last: int


@dataclass(frozen=True)
class Traced:
    """A test by its name for pytest, what it reached, how long that took, and whether it failed."""

    name: str
    functions: frozenset[Function]
    seconds: float
    has_failed: bool


class Tracer:
    """A plugin of pytest that notes which functions of ours each test calls."""

    def __init__(self, tree: Path) -> None:
        self._package = f"{tree / 'circumvent'}/"
        self._failed: set[str] = set()
        self.traced: list[Traced] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        called: set[CodeType] = set()

        def note(frame: FrameType, _event: str, _argument: object) -> None:
            called.add(frame.f_code)

        started = time.monotonic()
        threading.settrace(note)
        sys.settrace(note)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            functions = frozenset(map(self._function, filter(self._is_ours, called)))
            seconds = time.monotonic() - started
            has_failed = item.nodeid in self._failed
            self.traced.append(Traced(item.nodeid, functions, seconds, has_failed))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    def _is_ours(self, code: CodeType) -> bool:
        return code.co_filename.startswith(self._package)

    def _function(self, code: CodeType) -> Function:
        name = code.co_filename.removeprefix(self._package).removesuffix(".py")
        lines = [line for _, _, line in code.co_lines() if line is not None]
        return Function(name, code.co_firstlineno, max(lines))


class Reach:
    """Chooses tests by what all of them reached."""

    def __init__(self, traced: list[Traced]) -> None:
        self._by_function: defaultdict[Function, list[Traced]] = defaultdict(list)
        for each in traced:
            for function in each.functions:
                self._by_function[function].append(each)

    def tests_of(self, module: str, line: int) -> list[Traced]:
        """Return the tests that reach the function around a line, the most special ones first.

        What stands outside of functions is used elsewhere: the most general tests of the module
        or its folder have to find that.
        """
        around = [
            each
            for each in self._by_function
            if each.module == module and each.first <= line <= each.last
        ]
        if around:
            smallest = min(around, key=lambda each: each.last - each.first)
            return _in_turns(sorted(self._by_function[smallest], key=_breadth))
        folder = module.rpartition("/")[0] + "/"
        tests = self._tests_below(module) or self._tests_below(folder)
        return _in_turns(sorted(tests, key=_breadth, reverse=True))

    def _tests_below(self, path: str) -> list[Traced]:
        near = [function for function in self._by_function if function.module.startswith(path)]
        found = chain.from_iterable(self._by_function[function] for function in near)
        return list(dict.fromkeys(found))


def _breadth(test: Traced) -> int:
    return len(test.functions)


def _in_turns(tests: list[Traced]) -> list[Traced]:
    """In this order, but only one of each parametrized test at a time."""
    turns: defaultdict[str, list[Traced]] = defaultdict(list)
    for each in tests:
        turns[each.name.partition("[")[0]].append(each)
    return list(islice(filter(None, chain.from_iterable(zip_longest(*turns.values()))), _MOST))


def modules(root: Path, wanted: list[str]) -> list[str]:
    """Return the modules of the wanted rooms or files, as in ``wire`` and ``net/pump``."""
    package = root / "circumvent"
    paths = sorted(path for room in ROOMS for path in (package / room).rglob("*.py"))
    names = [str(path.relative_to(package).with_suffix("")) for path in paths]
    names = [name for name in names if not name.endswith("__init__")]
    return [name for name in names if any(_within(name, each) for each in wanted)]


def _within(module: str, wanted: str) -> bool:
    return module == wanted or module.startswith(wanted.rstrip("/") + "/")
