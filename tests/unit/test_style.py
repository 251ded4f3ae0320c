"""Rules of style that the linter has no rule for."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPANS = re.compile(
    r"([A-Z_]*(SECONDS|TIMEOUT|PATIENCE|PAUSE|DELAY|AFTER|WITHIN|EVERY|UNTIL|WAIT|HEAD_START)[A-Z_]*"
    r"|time|monotonic|perf_counter)"
)


# Few files can hold what is looked for, and a search for plain text is quicker than to parse all.
RAISES_A_NAME = re.compile(r"raise [\w.]+\((?:\n *)?(?:.*, )?\w+[,)]")
PUTS_IN_PLACE = re.compile(r"setattr|\.[A-Z_]+ = ")


def blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The blocks of statements inside ``node``; no expression holds any."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        block = getattr(node, name, None)
        if isinstance(block, list):
            yield block
            for each in block:
                yield from blocks(each)


def is_text(value: ast.expr) -> bool:
    if isinstance(value, ast.IfExp):
        return is_text(value.body)
    return isinstance(value, ast.JoinedStr) or (
        isinstance(value, ast.Constant) and isinstance(value.value, str)
    )


def named_messages(source: str) -> list[int]:
    """The lines of ``name = "..."`` whose name is an argument of the ``raise`` that follows."""
    if not RAISES_A_NAME.search(source):
        return []
    return [
        first.lineno
        for block in blocks(ast.parse(source))
        for first, second in pairwise(block)
        if isinstance(first, ast.Assign)
        and is_text(first.value)
        and isinstance(second, ast.Raise)
        and isinstance(second.exc, ast.Call)
        and ast.unparse(first.targets[0]) in map(ast.unparse, second.exc.args)
    ]


def test_a_named_message_is_found() -> None:
    assert named_messages("if x:\n    message = f'{x}'\n    raise ValueError(message)") == [2]
    assert named_messages("why = 'a' if x else 'b'\nraise ValueError(why, 1)") == [1]
    assert named_messages("code = 1\nraise ValueError('text', code)") == []


def test_messages_are_written_where_they_are_raised() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for room in ("circumvent", "plugins")
        for path in sorted((ROOT / room).rglob("*.py"))
        for line in named_messages(path.read_text())
    ]
    assert found == []


def patched_times(source: str) -> list[int]:
    """The lines that put another value in place of a module's time constant, or of a clock."""
    if not PUTS_IN_PLACE.search(source):
        return []
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign | ast.Call) and SPANS.fullmatch(patched_name(node))
    ]


def patched_name(node: ast.Assign | ast.Call) -> str:
    """``c`` for ``setattr(a.b, "c", ...)``, ``setattr("a.b.c", ...)`` and ``a.b.C = ...``."""
    if isinstance(node, ast.Assign):
        target = node.targets[0]
        return target.attr if isinstance(target, ast.Attribute) and target.attr.isupper() else ""
    if ast.unparse(node.func).endswith("setattr"):
        names = (each.value for each in node.args[:2] if isinstance(each, ast.Constant))
        return next((name.rpartition(".")[2] for name in names if isinstance(name, str)), "")
    return ""


def test_a_patched_time_is_found() -> None:
    assert patched_times("patch.setattr(module, 'LAST_SECONDS', 0.1)") == [1]
    assert patched_times("patch.setattr('module.HANGING_AFTER', 0.1)") == [1]
    assert patched_times("patch.setattr(time, 'monotonic', clock)") == [1]
    assert patched_times("room.module.RETRY_EVERY = 0.1") == [1]
    assert patched_times("patch.setattr(module, 'MOST', 2)\nself.time = 1\nPATIENCE = 3") == []


def test_times_are_handed_in_as_values() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line in patched_times(path.read_text())
    ]
    assert found == []
