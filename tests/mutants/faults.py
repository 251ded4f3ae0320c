"""Small faults, made by the operators of Cosmic Ray and one more, and a sample of them."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

# Neither Cosmic Ray nor its parser has types.
_Node: TypeAlias = Any
_Operator: TypeAlias = Any
_Place: TypeAlias = tuple[tuple[int, int], tuple[int, int]]

# Numbers and texts stay as they are: most are limits and messages, and any other would do as well.
_OPERATORS = [
    *(
        f"ReplaceComparisonOperator_{change}"
        for change in (
            *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
            *("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
        )
    ),
    *(
        f"ReplaceBinaryOperator_{change}"
        for change in (
            *("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv"),
            *("LShift_RShift", "RShift_LShift", "BitAnd_BitOr"),
        )
    ),
    *("AddNot", "ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_Delete_USub"),
    *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop"),
    "ExceptionReplacer",
]

# What only the type checker looks at, stars between parameters, and numbers made of two.
_LEFT_OUT = re.compile(
    r"(frozen|slots)=\w+|(not )?TYPE_CHECKING|(^|[ (])[*/](?=,)|\b\d[\d_.]* \W{1,2} \d"
)


@dataclass(frozen=True)
class Mutant:
    """A module with one fault: its path under ``circumvent/``, the line before and after."""

    module: str
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"`{self.module}.py`: `{self.before}` → `{self.after}`"


class DropCall:
    """A statement that is nothing but a call, awaited or not, becomes ``pass``; logging stays."""

    def mutation_positions(self, node: _Node) -> Iterator[_Place]:
        if node.type == "simple_stmt" and _is_call(node.children[0]):
            yield node.start_pos, node.children[0].end_pos

    def mutate(self, node: _Node, _index: int) -> _Node:
        indent = node.children[0].get_first_leaf().prefix
        node.children[0] = get_ast(f"{indent}pass")
        return node


def sample(root: Path, module: str, size: int, seed: int) -> list[Mutant]:
    """Return some mutants of a module, no two at one place as long as there are other places."""
    source = (root / "circumvent" / f"{module}.py").read_text()
    chance = random.Random(f"{seed} {module}")  # a sample that can be had again
    places = list(_places(source).values())
    chance.shuffle(places)
    for faults in places:
        chance.shuffle(faults)
    spread = filter(None, chain.from_iterable(zip_longest(*places)))
    mutants = (_mutant(module, source, *fault) for fault in spread)
    return list(islice(filter(None, mutants), size))


def _places(source: str) -> dict[_Place, list[tuple[_Operator, int]]]:
    """Return where which operators apply, each with the number of its occurrence."""
    operators = [DropCall(), *(get_operator(f"core/{name}")() for name in _OPERATORS)]
    places = defaultdict(list)
    occurrences = [0] * len(operators)
    for node in ast_nodes(get_ast(source)):
        for index, operator in enumerate(operators):
            for place in operator.mutation_positions(node):
                places[place].append((operator, occurrences[index]))
                occurrences[index] += 1
    return places


def _mutant(module: str, source: str, operator: _Operator, occurrence: int) -> Mutant | None:
    """Return one mutant, or None where it is no Python or nothing that a test should find."""
    mutated = mutate_code(source, operator, occurrence)
    try:
        compile(mutated, module, "exec")
    except SyntaxError:
        return None
    pairs = enumerate(zip(source.splitlines(), mutated.splitlines(), strict=False), 1)
    line, old, new = next((line, old, new) for line, (old, new) in pairs if old != new)
    if _LEFT_OUT.sub("", old) == _LEFT_OUT.sub("", new):
        return None
    return Mutant(module, line, old.strip(), new.strip(), mutated)


def _is_call(node: _Node) -> bool:
    if node.type not in {"atom_expr", "power", "await"}:
        return False
    last = node.children[-1]
    return (
        last.type == "trailer" and last.children[0].value == "(" and "_log" not in node.get_code()
    )
