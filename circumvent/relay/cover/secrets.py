"""Keeps keys and tokens out of a cover site's directory: the site shows all its files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from circumvent.errors import ConfigError
from circumvent.wire.keys import KeyKind

_MAX_KEY_FILE = 64 * 1024  # bytes; a chain of certificates with its key is smaller
_PEM = b"PRIVATE KEY-----"  # of every kind: RFC 7468 §10, OpenSSL's and OpenSSH's
_OURS = tuple(f"{kind.value}:".encode() for kind in (KeyKind.SIGNER, KeyKind.BUCKET))
_NAMES = ("relay.toml", "users.toml")


def check_places(root: Path, private: Sequence[Path]) -> None:
    """Raise ConfigError when one of the ``private`` files or directories lies in the site.

    Links are followed. The private places need not exist yet.
    """
    shown = root.resolve()
    for place in private:
        if place.resolve().is_relative_to(shown):
            raise ConfigError(
                f"cover: {root} would show {place} to everybody;"
                " make a directory of its own for the site",
                stage="config",
            )


def check_files(root: Path, private: Sequence[Path]) -> None:
    """Raise ConfigError when a file of the site, whatever its name, holds a key or a token.

    Hidden files and symbolic links are skipped: the site does not show them, or shows their target
    by its own name.
    """
    known = {(stat.st_dev, stat.st_ino) for stat in _stats(private)}
    for file in _shown(root):
        try:
            stat = file.stat()
            is_secret = (
                (stat.st_dev, stat.st_ino) in known
                or file.name in _NAMES
                or (stat.st_size <= _MAX_KEY_FILE and _holds_key(file.read_bytes()))
            )
        except OSError as error:
            raise ConfigError(f"cover: {file}: {error.strerror}", stage="config") from error
        if is_secret:
            raise ConfigError(
                f"cover: {file} holds secrets, and the site would show it; move it elsewhere",
                stage="config",
            )


def _stats(places: Sequence[Path]) -> Iterator[os.stat_result]:
    return (place.stat() for place in places if place.exists())


def _shown(root: Path) -> Iterator[Path]:
    """The regular files that a visitor can reach by their own names."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file() and not file.is_symlink():
                yield file


def _holds_key(data: bytes) -> bool:
    return _PEM in data or data.lstrip().startswith(_OURS)
