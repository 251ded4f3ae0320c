"""Keys and bundles on disk: secrets have mode 0600, and no file is half written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from circumvent import texts
from circumvent.cli.links import FROM_STDIN
from circumvent.errors import ConfigError
from circumvent.typed_toml import DIRECTORY_MODE, SECRET_MODE, check_private
from circumvent.wire.bundle import MAX_BUNDLE, Trust
from circumvent.wire.keys import Key, KeyKind, parse_key

PUBLIC_MODE = 0o644


def read_key(path: Path, *kinds: KeyKind) -> Key:
    """The key in a file; raises ConfigError when it is none of ``kinds``, or a bare secret."""
    try:
        key = parse_key(texts.decode_text(_read(path, MAX_BUNDLE), "replace"), *kinds)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}", stage="key") from None
    if key.public() != key:
        check_private(path)
    return key


def read_trust(paths: Iterable[Path], threshold: int | None) -> Trust:
    """Public keys of an authority; all must sign unless told otherwise. Raises ConfigError."""
    keys = tuple(read_key(path, KeyKind.TRUSTED).raw for path in paths)
    try:
        return Trust(keys, len(keys) if threshold is None else threshold)
    except ValueError as error:
        raise ConfigError(f"trust: {error}", stage="key") from None


def write_pair(directory: Path, name: str, key: Key) -> None:
    """``name`` for the owner alone, ``name.pub`` for all; raises ConfigError if it is there."""
    directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    _create(directory / name, f"{key.text()}\n", SECRET_MODE)
    _create(directory / f"{name}.pub", f"{key.public().text()}\n", PUBLIC_MODE)


def read_bundle(path: Path) -> bytes:
    """What may be a bundle; one byte more than the limit shows that it is too large."""
    return _read(path, MAX_BUNDLE + 1)


def read_text(path: Path) -> str:
    """The text of a file, or of standard input for ``-``; raises ConfigError."""
    if str(path) == FROM_STDIN:
        return texts.read_stdin()
    try:
        return texts.read_text(path)
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", stage="file") from None
    except OSError as error:
        raise _unusable(path, error) from error


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file at once: a reader sees the old or the new one, whole."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(data)
        beside.chmod(PUBLIC_MODE)
        beside.replace(path)
    except OSError as error:
        raise _unusable(path, error) from error


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise _unusable(path, error) from error


def _create(path: Path, text: str, mode: int) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise ConfigError(f"{path} is there already; choose another --out", stage="key") from None
    except OSError as error:
        raise _unusable(path, error) from error
    with open(file, "w", encoding="ascii") as opened:  # noqa: PTH123 - a descriptor with its mode
        opened.write(text)


def _unusable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path}: {os.strerror(error.errno or 0)}", stage="file")
