"""What a cover site of files must not hold: everything in it is shown to everybody."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from circumvent.errors import ConfigError
from circumvent.wire.keys import KeyKind

_MOST_OF_A_KEY = 64 * 1024  # bytes; chains of certificates with their key stay below
_PEM = b"PRIVATE KEY-----"  # whatever kind: RFC 7468 §10, and OpenSSL's and OpenSSH's own
_OURS = tuple(f"{kind.value}:".encode() for kind in (KeyKind.SIGNER, KeyKind.BUCKET))
_NAMES = ("relay.toml", "users.toml")


def check_places(root: Path, private: Sequence[Path]) -> None:
    """Raise ConfigError when one of the ``private`` files or directories lies in the site.

    Links are followed. They need not exist yet.
    """
    shown = root.resolve()
    for place in private:
        if place.resolve().is_relative_to(shown):
            message = (
                f"cover: {root} would show {place} to everybody;"
                " make a directory of its own for the site"
            )
            raise ConfigError(message, stage="config")


def check_files(root: Path, private: Sequence[Path]) -> None:
    """Raise ConfigError when there is a key or a token in the site, under whatever name.

    What is hidden and links to what lies outside are passed over: the site shows neither.
    """
    known = {(stat.st_dev, stat.st_ino) for stat in _stats(private)}
    for file in _shown(root):
        try:
            stat = file.stat()
            is_secret = (
                (stat.st_dev, stat.st_ino) in known
                or file.name in _NAMES
                or (stat.st_size <= _MOST_OF_A_KEY and _holds_key(file.read_bytes()))
            )
        except OSError as error:
            raise ConfigError(f"cover: {file}: {error.strerror}", stage="config") from error
        if is_secret:
            message = f"cover: {file} holds secrets, and the site would show it; move it elsewhere"
            raise ConfigError(message, stage="config")


def _stats(places: Sequence[Path]) -> Iterator[os.stat_result]:
    return (place.stat() for place in places if place.exists())


def _shown(root: Path) -> Iterator[Path]:
    """Regular files that a visitor can reach, but for links to what is named elsewhere in it."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file() and not file.is_symlink():
                yield file


def _holds_key(data: bytes) -> bool:
    return _PEM in data or data.lstrip().startswith(_OURS)
