"""Options that several ``circumvent bundle`` commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from circumvent.wire.bundle import MAX_SOURCE
from circumvent.wire.link_text import is_clean

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
LINKS_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
OUT_FILE = click.Path(dir_okay=False, path_type=Path)
OUT_DIRECTORY = click.Path(file_okay=False, path_type=Path)

_URL = re.compile(r"[a-z][a-z0-9+.-]*:.+")
COUNT = click.IntRange(min=1)

Command = TypeVar("Command", bound=Callable[..., None])


def trust_options(command: Command) -> Command:
    """``--trust`` and ``--threshold``."""
    for option in (
        click.option(
            "--threshold",
            type=COUNT,
            metavar="N",
            help="How many of them must sign; all of them unless told otherwise.",
        ),
        click.option(
            "--trust",
            "trusted",
            type=FILE,
            multiple=True,
            required=True,
            metavar="FILE.pub...",
            help="A public key of the authority; may be given often.",
        ),
    ):
        command = option(command)
    return command


def check_sources(
    _context: click.Context, _option: click.Parameter, sources: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse what is no URL; which sources work is up to the client's channels."""
    for source in sources:
        if not _URL.fullmatch(source) or not is_clean(source) or len(source) > MAX_SOURCE:
            raise click.BadParameter(
                f"is a URL of at most {MAX_SOURCE} characters, such as https://host/path"
            )
    return sources


bucket_option = click.option(
    "--bucket", type=FILE, metavar="FILE", help="The bucket's secret key, for what is sealed to it."
)
source_option = click.option(
    "--source",
    "sources",
    multiple=True,
    callback=check_sources,
    metavar="URL",
    help="Where clients ask; may be given often.",
)


def example(line: str) -> str:
    """The end of a subcommand's help."""
    return f"\b\nExample:\n  circumvent bundle {line}"
