"""The tests of a module run against a mutant, in a copy of the tree and a process of its own."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import aiohttp  # noqa: F401 - imported once, before the children are forked
import pytest
import pytest_asyncio.plugin  # noqa: F401
import trustme  # noqa: F401
from hypothesis import HealthCheck, Phase, settings

from tests.mutants.faults import Mutant
from tests.mutants.reach import Traced, Tracer

_OUTPUT = Path("output")
_TRACED = Path("traced")

_stamps = count(1)


class Outcome(Enum):
    """A mutant is killed when a test fails, and as good as killed when the tests do not end."""

    KILLED = "killed"
    ENDLESS = "endless"
    SURVIVED = "survived"


def copy_tree(root: Path, beside: Path) -> None:
    """Give this worker a tree of its own and go there: what git knows, as it is on the disk."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=root, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        target = beside / str(os.getpid()) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # deleted and not yet committed
            shutil.copy2(root / name, target)
    os.chdir(beside / str(os.getpid()))


def trace_tests(files: Sequence[str]) -> list[Traced]:
    """Run the tests of these files without a fault, and return what each of them reached."""
    _run_in_child(_trace, files, None)
    return cast("list[Traced]", pickle.loads(_TRACED.read_bytes()))


def try_mutant(mutant: Mutant, tests: Sequence[str], limit: float) -> Outcome:
    """Run the tests against the mutant, for at most the limit in seconds."""
    with _in_place(mutant):
        return _run_in_child(_test, tests, limit)


@contextmanager
def _in_place(mutant: Mutant) -> Iterator[None]:
    """Put the mutant in; each has a date of its own, by which Python knows stale bytecode."""
    path = Path("circumvent", f"{mutant.module}.py")
    source, dates = path.read_text(), path.stat()
    path.write_text(mutant.source)
    stamp = next(_stamps)
    os.utime(path, (stamp, stamp))
    try:
        yield
    finally:
        path.write_text(source)
        os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))


def _run_in_child(
    target: Callable[[Sequence[str]], None], tests: Sequence[str], limit: float | None
) -> Outcome:
    """Run the tests in a child that has pytest imported already, and end what it leaves behind."""
    child = get_context("fork").Process(target=target, args=(tests,))
    child.start()
    child.join(limit)
    has_ended = child.exitcode is not None
    with suppress(ProcessLookupError):
        os.killpg(child.pid or 0, signal.SIGKILL)
    child.join()
    if not has_ended:
        return Outcome.ENDLESS
    return Outcome.KILLED if child.exitcode else Outcome.SURVIVED


def _trace(files: Sequence[str]) -> None:
    tracer = Tracer(Path.cwd())
    _run(files, tracer)
    _TRACED.write_bytes(pickle.dumps(tracer.traced))


def _test(tests: Sequence[str]) -> None:
    files = dict.fromkeys(name.partition("::")[0] for name in tests)
    sys.exit(_run(["-x", *files], _Chosen(tests)))


class _Chosen:
    """A plugin of pytest: of all that it has collected only these tests run, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._turns = {name: turn for turn, name in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self._turns]
        items[:] = sorted(chosen, key=lambda item: self._turns[item.nodeid])


def _run(arguments: Sequence[str], plugin: object) -> int:
    os.setsid()
    _import_from(Path.cwd())
    with _OUTPUT.open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    settings.register_profile(  # the same examples each time, and none is made smaller
        "mutants",
        max_examples=25,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    options = ["-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutants", "--timeout=20"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what is imported above
    return pytest.main([*options, *arguments], [plugin])


def _import_from(tree: Path) -> None:
    for name in list(sys.modules):
        is_ours = name.partition(".")[0] in {"circumvent", "circumvent_plugins", "tests"}
        if is_ours and not name.startswith("tests.mutants"):
            del sys.modules[name]
    roots = [str(tree), str(tree / "plugins")]
    sys.path[:0] = roots
    os.environ["PYTHONPATH"] = os.pathsep.join(roots)
