"""What the fuzzer found worth keeping: one input a line, as Python writes bytes."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"


def load(target: str) -> list[bytes]:
    """The kept inputs of a target."""
    lines = (FOLDER / f"{target}.txt").read_text().splitlines()
    return [ast.literal_eval(line) for line in lines]


def save(target: str, inputs: Iterable[bytes]) -> None:
    """Replace the kept inputs, short ones first."""
    lines = (repr(each) for each in sorted(set(inputs), key=lambda data: (len(data), data)))
    (FOLDER / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines))


def unpack(inputs: Iterable[bytes], directory: Path) -> Path:
    """One file for each input, as libFuzzer wants them."""
    directory.mkdir()
    for data in inputs:
        (directory / hashlib.sha256(data).hexdigest()).write_bytes(data)
    return directory


def collect(directory: Path) -> list[bytes]:
    """The inputs in a directory."""
    return [path.read_bytes() for path in directory.iterdir()]
