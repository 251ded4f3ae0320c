"""``circumvent servers check``: what of a list can be used, without using or saving any of it."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from circumvent.api import Privacy
from circumvent.cli import links as pasted
from circumvent.cli.app import CONFIG
from circumvent.cli.options import ENVIRONMENT, json_option, load_config, place_options
from circumvent.errors import LinkError, UnsupportedError
from circumvent.plugins import load_plugins
from circumvent.tunnels.candidate import Candidate


class RefusedLink(msgspec.Struct):
    """A link that cannot be used; lines count from 1."""

    line: int
    reason: str


class CheckedList(msgspec.Struct):
    """What of a list can be used: each of its links is counted in one of the three."""

    accepted: int = 0
    unverified: int = 0
    refused: list[RefusedLink] = []

    def __str__(self) -> str:
        lines = [
            f"{self.accepted} can be used",
            f"{self.unverified} more with --privacy unverified: nothing proves who their server is",
            f"{len(self.refused)} cannot be used",
        ]
        refused = [(f"line {each.line}", each.reason) for each in self.refused]
        reasons = pasted.by_reason(refused, most=len(refused))
        return "\n".join([*lines, *(f"  {reason}" for reason in reasons)])


@click.command(context_settings=ENVIRONMENT)
@click.argument("lists", nargs=-1, metavar="[FILE|-|LINK]...")
@place_options
@json_option
def check(
    *, lists: tuple[str, ...], config_file: Path | None, as_json: bool, **options: object
) -> None:
    """Tell what of a list can be used, and why the rest cannot.

    Nothing is saved, and nothing is sent. A list has links, one or more a line, with whatever else
    stands there, or is all of that in base64. Without FILE, or with "-", it is read from standard
    input. It is an error (exit code 3) only when nothing in it can be used.
    """
    plugins = load_plugins(load_config(config_file, **options).plugins.allow)
    transports = pasted.transports_of(plugins)
    checked = CheckedList()
    for line, link in pasted.number_words(lists or (pasted.FROM_STDIN,)):
        try:
            found = pasted.parse_link(link, transports)
        except (LinkError, UnsupportedError) as error:
            checked.refused.append(RefusedLink(line, str(error)))
        else:
            is_open = isinstance(found, Candidate) and found.privacy is Privacy.UNVERIFIED
            checked.unverified += is_open
            checked.accepted += not is_open
    click.echo(msgspec.json.encode(checked) if as_json else str(checked))
    if not checked.accepted + checked.unverified:
        raise SystemExit(CONFIG)
