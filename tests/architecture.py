"""``python -m tests.architecture``: the size of the code and the circles in its import graph.

Every import counts, also one inside a function or for the type checker alone. ``--draw`` draws the
rooms anew in the page on the architecture.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path

PACKAGES = ("circumvent", "circumvent_plugins")
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn from the imports: begin -->", "<!-- drawn from the imports: end -->"
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_WANTED = (*_FUNCTION, ast.Import, ast.ImportFrom)


@dataclass(frozen=True, slots=True)
class Module:
    """One file: its lines, those of each of its functions, and the modules that it imports."""

    lines: int
    functions: tuple[tuple[str, int], ...]
    imports: frozenset[str]


def modules() -> dict[str, Module]:
    """All modules of PACKAGES by name; imports from elsewhere are left out."""
    files = {name: path for package in PACKAGES for name, path in _files(package)}
    return {name: _module(name, path, files) for name, path in files.items()}


def cycle(found: Mapping[str, Module]) -> list[str]:
    """Modules that import each other in a circle, the first one again at the end; or nothing."""
    try:
        TopologicalSorter({name: each.imports for name, each in found.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def figures(found: Mapping[str, Module]) -> Iterator[str]:
    """What a reader of the whole code wants to know, a line each."""
    files = [(name, each.lines) for name, each in found.items()]
    functions = [
        (f"{name}.{function}", lines)
        for name, each in found.items()
        for function, lines in each.functions
    ]
    yield f"files: {len(files)}, {_sizes(files)}"
    yield f"functions: {len(functions)}, {_sizes(functions)}"
    yield f"cycle of imports: {' -> '.join(cycle(found)) or 'none'}"


def picture(found: Mapping[str, Module]) -> str:
    """Which room imports which, as a Mermaid flowchart.

    An import that follows from others is left out: of three rooms in a row, the first also imports
    the third.
    """
    rooms: dict[str, set[str]] = {}
    for name, each in found.items():
        own = rooms.setdefault(_room(name), set())
        own |= {_room(other) for other in each.imports} - {_room(name)}
    below = {room: _reachable(room, rooms) for room in rooms}
    arrows = (
        f"    {room} --> {other}"
        for room in sorted(rooms)
        for other in sorted(rooms[room])
        if not any(other in below[between] for between in rooms[room] - {other})
    )
    return "\n".join(("```mermaid", "flowchart TD", *arrows, "```"))


def draw(page: Path, drawing: str) -> None:
    """Put ``drawing`` into ``page``, between the two lines that say so."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{drawing}\n{END}{after}", encoding="utf-8")


def _room(module: str) -> str:
    first, *rest = module.split(".")
    return "plugins" if first != "circumvent" else rest[0] if rest else "circumvent"


def _reachable(room: str, rooms: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = [*rooms[room]]
    while ahead:
        each = ahead.pop()
        if each not in found:
            found.add(each)
            ahead += rooms[each]
    return found


def _sizes(named: Sequence[tuple[str, int]]) -> str:
    longest, lines = max(named, key=itemgetter(1))
    median = statistics.median(size for _, size in named)
    return f"median {median:g} lines, longest {lines} ({longest})"


def _files(package: str) -> Iterator[tuple[str, Path]]:
    spec = find_spec(package)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        for path in sorted(Path(folder).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *(part for part in parts if part != "__init__"))), path


def _module(name: str, path: Path, files: Mapping[str, Path]) -> Module:
    text = path.read_text(encoding="utf-8")
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, _WANTED)]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports = {each for node in nodes for each in _imported(node, package, files)}
    functions = tuple(
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in nodes
        if isinstance(node, _FUNCTION)
    )
    return Module(len(text.splitlines()), functions, frozenset(imports & files.keys()))


def _imported(node: ast.AST, package: str, files: Mapping[str, Path]) -> Iterator[str]:
    """Names of modules that an import statement of a module in ``package`` names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
        origin = ".".join((*above, *filter(None, [node.module])))
        for alias in node.names:  # a module of the package, or something in the package itself
            inner = f"{origin}.{alias.name}"
            yield inner if inner in files else origin


if __name__ == "__main__":
    if sys.argv[1:] == ["--draw"]:
        draw(PAGE, picture(modules()))
    sys.stdout.writelines(f"{line}\n" for line in figures(modules()))
