"""Both tables: verdicts that are false, and how soon the right ones come.

``python -m tests.e2e.verdicts`` prints them, which takes a quarter of an hour; options choose.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from tests.e2e.false_verdicts import COUNT, ROWS, false_verdicts
from tests.e2e.field import COLUMNS
from tests.e2e.right_verdicts import FAULTS, right_verdicts

TOGETHER = 4  # rows at the same time: more would measure the machine


def table(
    rows: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], object]
) -> str:
    """In Markdown."""
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[row, *(str(cells[row, column]) for column in columns)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def print_false(numbers: Sequence[int], columns: Sequence[str], count: int) -> None:
    """The table of false verdicts, and what is known of each."""
    rows = [ROWS[number - 1] for number in numbers]
    for at in range(0, len(rows), TOGETHER):
        part = rows[at : at + TOGETHER]
        found = false_verdicts(part, columns, count)
        print(table([row.name for row in part], columns, found), flush=True)
        for key, verdicts in found.items():
            if verdicts.reasons:
                print(*key, verdicts.reasons, sep=": ", flush=True)


def print_right(numbers: Sequence[int], columns: Sequence[str]) -> None:
    """The table of right verdicts, over three servers and over one."""
    for number in numbers:
        fault = FAULTS[number - 1]
        for count in (3, 1):
            found = right_verdicts(fault, columns, count)
            name = f"{fault.name}, of {count}"
            cells = {(name, column): found[column] for column in columns}
            print(table([name], columns, cells), flush=True)


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.verdicts", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=range(1, len(ROWS) + 1))
    parser.add_argument("--faults", type=int, nargs="*", default=range(1, len(FAULTS) + 1))
    parser.add_argument("--columns", nargs="*", default=list(COLUMNS))
    parser.add_argument("--count", type=int, default=COUNT, help="streams of a cell")
    wanted = parser.parse_args()
    print_false(wanted.rows, wanted.columns, wanted.count)
    print_right(wanted.faults, wanted.columns)


if __name__ == "__main__":
    main()
