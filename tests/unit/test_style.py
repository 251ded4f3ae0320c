"""Rules of style that the linter has no rule for."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]


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
