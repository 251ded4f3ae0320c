"""TOML files as typed values, and files that only their owner may read."""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from circumvent.errors import ConfigError
from circumvent.texts import read_text

UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
MIN_MEMORY = 1 << 20  # two of the largest blocks, and as much for connections
SECRET_MODE = 0o600
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
DIRECTORY_MODE = 0o700

T = TypeVar("T")


def read_table(path: Path) -> dict[str, object]:
    """What a TOML file holds; raises ConfigError."""
    try:
        # Text copied from a web page may hold no-break spaces, which look like blanks.
        return tomllib.loads(read_text(path).replace("\u00a0", " "))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", stage="config") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; correct it there", stage="config") from error


def convert(table: Mapping[str, object], kind: type[T], source: str) -> T:
    """The typed value; raises ConfigError that names ``source``, the key and what to do."""
    try:
        return msgspec.convert(table, kind)
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{source}: {_explain(str(error))}", stage="config") from error


def parse_size(key: str, text: str, least: int = MIN_MEMORY) -> int:
    """Bytes of ``"16 MiB"``; raises ValueError that names the key."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = UNITS.get(match[2] or "B") if match else None
    if match is None or unit is None:
        raise ValueError(f'{key}: "{text}" is not a size: write it as "16 MiB"')
    if (size := int(float(match[1]) * unit)) < least:
        raise ValueError(f"{key}: {text} is too little: at least {_shown(least)} is needed")
    return size


def _shown(size: int) -> str:
    unit = max((unit for unit in UNITS if size >= UNITS[unit]), key=UNITS.__getitem__)
    return f"{size // UNITS[unit]} {unit}"


def read_secret(path: Path, errors: str = "strict") -> str:
    """The text of a file that only its owner may read; raises ConfigError."""
    check_private(path)
    try:
        return read_text(path, errors)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", stage="config") from error


def check_private(path: Path) -> None:
    """Raises ConfigError, with the command that helps, when others may read the file."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigError(f"{path}: {os.strerror(error.errno or 0)}", stage="config") from error
    if mode & ~SECRET_MODE:
        raise ConfigError(
            f"{path} holds secrets and has mode {mode:04o}; run: chmod 600 '{path}'", stage="config"
        )


class UnsafePlaceError(PermissionError):
    """Others can write to a directory, and may have put files into it."""


def make_private(directory: Path) -> bool:
    """Make a directory that only its owner can write to; False if others could until now.

    A user who can write there can replace our files. Raises OSError, also when the mode cannot be
    changed.
    """
    if directory.parts[:1] == ("~",):  # the user has no home directory
        raise FileNotFoundError(errno.ENOENT, "HOME is not set", str(directory))
    directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid not in {os.geteuid(), 0}:
        raise UnsafePlaceError("its directory belongs to another user")
    if not found.st_mode & _WRITABLE_BY_OTHERS:
        return True
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
        raise UnsafePlaceError("others can write to its directory")
    directory.chmod(DIRECTORY_MODE)
    return False


def _explain(text: str) -> str:
    """Put the key in front: msgspec says ``Expected `int`, got `str` - at `$.limits.clients```."""
    problem, _, place = text.partition(" - at `$")
    key = place.rstrip("`").removeprefix(".")
    if match := re.fullmatch(r"Object contains unknown field `(.+)`", problem):
        unknown = f"{key}.{match[1]}" if key else match[1]
        return f"unknown key {unknown}: remove it or correct its name"
    return f"{key}: {problem}" if key else problem
